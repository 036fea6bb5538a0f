"""Published rewards on published weights, with their own preprocessing made differentiable.

- `weights.py`  what a reward needs, where it is, and how it is read
- `clip.py`     CLIP's preprocessing, towers and tokens, which most of them share
- `laion.py`    `aesthetic`

Files are looked for when a reward is built, so that a plan fails at once, and loaded at its first score.
"""

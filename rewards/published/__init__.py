"""Published rewards on published weights, with their own preprocessing made differentiable.

- `weights.py`      what a reward needs, where it is, and how it is read
- `lazy.py`         reading at the first score
- `clip.py`         CLIP's preprocessing, towers and tokens, which most of them share
- `laion.py`        `aesthetic`
- `clipscore.py`    `clipscore`
- `pickscore.py`    `pickscore`
- `hps.py`          `hpsv2`, `hpsv2.1`
- `imagereward.py`  `imagereward`
- `detection.py`    `object-count`, `object-removal`, on `detectors.py` and `counting.py`

Files are looked for when a reward is built, so that a plan fails at once, and loaded at its first score. None of this
has run on the published weights yet, which this repository's machines cannot fetch: architectures, layouts and
preprocessing are tested on random tiny weights against independent implementations.
"""

"""Published rewards on published weights, with a differentiable version of their own preprocessing.

- `weights.py`      the files that a reward needs: finds, fetches and reads them
- `lazy.py`         loads a reward's network at its first score
- `clip.py`         CLIP's preprocessing, towers and tokens, which most of the rewards share
- `laion.py`        `aesthetic`
- `clipscore.py`    `clipscore`
- `pickscore.py`    `pickscore`
- `hps.py`          `hpsv2`, `hpsv2.1`
- `imagereward.py`  `imagereward`
- `detection.py`    `object-count`, `object-removal`, on `detectors.py` and `counting.py`

Building a reward finds its files, so that a plan fails at once if one is missing; its first score loads them. None of
these rewards has run on the published weights yet, which this repository's machines cannot fetch: architectures,
layouts and preprocessing are tested on tiny random weights against independent implementations.
"""

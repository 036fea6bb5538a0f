"""`reward: {http: URL}`: scores from a server of your own.

A batch of images is sent as one POST request of JSON, and the answer is JSON:

    {"images": ["<base64 of a PNG>", ...], "prompts": ["a cat", ...]}   ->   {"scores": [4.2, ...]}

Images are rounded to 8 bits, so the reward has no gradient. urllib3's `Retry` sends a batch again after a refused or
broken connection, a missing answer and the statuses 429, 502, 503 and 504, and follows a Retry-After header. A batch is
billed once, however often it is sent.
"""

import base64
import io
import math
from typing import Any
from urllib.parse import urlsplit

import requests
import torch
from requests.adapters import HTTPAdapter
from torch import Tensor
from urllib3.exceptions import ReadTimeoutError
from urllib3.util import Retry

from rewards.base import Reward, RewardError
from rewards.pixels import to_bytes, to_pillow

BUSY = (429, 502, 503, 504)


class RemoteReward(Reward):
    """A reward whose scores a server computes.

    Args:
        url: URL that batches are sent to.
        name: the reward's name in tables.
        timeout: the most seconds to wait for an answer.
        retries: how often a batch is sent again if the server is unreachable or busy.
        backoff: seconds before the second retry, doubled for each further one, at most 120.
        batch: the most images in one request; by default all images that are scored together.
        version: version of the server's reward. Change it when the server scores differently, so that trials with the
            earlier scores are not reused.

    Raises:
        ValueError: the URL is no http(s) URL, or a number is out of range.
    """

    differentiable = False

    def __init__(
        self,
        url: str,
        name: str,
        timeout: float = 60.0,
        retries: int = 3,
        backoff: float = 0.5,
        batch: int | None = None,
        version: str = "1",
    ) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
            raise ValueError(f"{url!r} is no http:// or https:// URL")
        if timeout <= 0 or retries < 0 or backoff < 0 or (batch is not None and batch < 1):
            raise ValueError("timeout must be above 0, retries and backoff at least 0, batch at least 1")
        self.url, self.name, self.version = url, name, str(version)
        self.timeout, self.retries, self.backoff, self.batch = timeout, retries, backoff, batch

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        size = self.batch or len(images)
        scores: list[float] = []
        with requests.Session() as session:
            retry = Retry(
                self.retries, backoff_factor=self.backoff, status_forcelist=BUSY, allowed_methods=None, redirect=0
            )
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(max_retries=retry))
            for begin in range(0, len(images), size):
                piece = slice(begin, begin + size)
                scores += self._request(session, to_bytes(images[piece]), prompts[piece])
        return torch.tensor(scores, dtype=torch.float32, device=images.device)

    def _request(self, session: requests.Session, images: Tensor, prompts: list[str]) -> list[float]:
        body = {"images": [_png(image) for image in images], "prompts": prompts}
        try:
            answer = session.post(self.url, json=body, timeout=self.timeout, allow_redirects=False)
        except requests.RequestException as error:
            raise self._failed(_reason(error, self.timeout, self.retries)) from error
        if answer.status_code != requests.codes.ok:
            raise self._failed(f"it answered {answer.status_code}: {answer.text[:200]!r}")
        return self._scores(answer, len(prompts))

    def _scores(self, answer: requests.Response, expected: int) -> list[float]:
        try:
            values: Any = answer.json()["scores"]
            if not isinstance(values, list):
                raise TypeError
            scores = [float(value) for value in values]
            if not all(map(math.isfinite, scores)):
                raise ValueError
        except (ValueError, TypeError, KeyError):
            raise self._failed(f'it answered {answer.text[:200]!r}, not {{"scores": [...]}}') from None
        if len(scores) != expected:
            raise self._failed(f"it gave {len(scores)} scores for {expected} images")
        return scores

    def _failed(self, what: str) -> RewardError:
        place = urlsplit(self.url)
        # The message leaves out user, password and query, which may hold a secret.
        shown = f"{place.scheme}://{place.hostname}{f':{place.port}' if place.port else ''}{place.path}"
        return RewardError(f"Reward {self.name!r} got no scores from {shown}: {what}.")


def _reason(error: requests.RequestException, timeout: float, retries: int) -> str:
    tried = f" (tried {retries + 1} times)" if retries else ""
    # After retries, requests wraps the last error.
    last = getattr(error.args[0], "reason", None) if error.args else None
    if isinstance(error, requests.Timeout) or isinstance(last, ReadTimeoutError):
        return f"no answer within {timeout:g} s{tried}; raise `timeout`, or lower `batch`"
    if isinstance(error, requests.exceptions.RetryError):
        return f"it stayed busy{tried}"
    if isinstance(error, requests.ConnectionError):
        return f"it cannot be reached{tried}; is the server running?"
    return f"{type(error).__name__}: {error}"


def _png(image: Tensor) -> str:
    file = io.BytesIO()
    to_pillow(image).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")

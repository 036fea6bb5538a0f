"""The HTTP reward against a real server on this machine."""

import base64
import io
import json
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image

from bench.sweep.schema import RewardSpec
from rewards.base import RewardError
from rewards.remote import RemoteReward

IMAGES = torch.rand(5, 3, 8, 6, generator=torch.Generator().manual_seed(0))
PROMPTS = ["a", "b", "c", "d", "é"]


class Server:
    """Answers each request with the next of `answers` (a status and a body, or seconds to wait), then with scores."""

    def __init__(self):
        self.answers: list = []
        self.requests: list[dict] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append(request)
                status, body = 200, json.dumps({"scores": [mean(image) for image in request["images"]]})
                if outer.answers:
                    answer = outer.answers.pop(0)
                    if isinstance(answer, tuple):
                        status, body = answer
                    else:
                        time.sleep(answer)
                self.send_response(status)
                self.end_headers()
                with suppress(BrokenPipeError):  # a client that timed out is gone
                    self.wfile.write(body.encode())

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/score"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))


def mean(png):
    return float(pixels(png).mean() / 255)


@pytest.fixture
def server():
    made = Server()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_scores_come_back_in_order_for_the_very_bytes(server):
    scores = RemoteReward(server.url, "mine")(IMAGES, PROMPTS)
    rounded = IMAGES.mul(255).round()
    torch.testing.assert_close(scores, rounded.mean((1, 2, 3)) / 255)
    assert server.requests[0]["prompts"] == PROMPTS
    sent = np.stack([pixels(png) for png in server.requests[0]["images"]])
    assert (sent == rounded.byte().permute(0, 2, 3, 1).numpy()).all()


def test_a_batch_is_cut_as_the_server_wants(server):
    scores = RemoteReward(server.url, "mine", batch=2)(IMAGES, PROMPTS)
    assert [len(request["images"]) for request in server.requests] == [2, 2, 1]
    torch.testing.assert_close(scores, RemoteReward(server.url, "mine")(IMAGES, PROMPTS))


def test_a_busy_server_is_asked_again(server):
    server.answers = [(503, "busy"), (429, "slowly")]
    assert RemoteReward(server.url, "mine", backoff=0.01)(IMAGES, PROMPTS).shape == (5,)
    assert len(server.requests) == 3


def test_retries_are_bounded(server):
    server.answers = [(503, "busy")] * 9
    with pytest.raises(RewardError, match=r"it stayed busy \(tried 3 times\)"):
        RemoteReward(server.url, "mine", retries=2, backoff=0.01)(IMAGES, PROMPTS)
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((500, "Traceback: no such model"), "it answered 500: 'Traceback: no such model'"),
        ((404, "not here"), "it answered 404"),
        ((200, "hello"), 'not {"scores": '),
        ((200, '{"score": [1]}'), 'not {"scores": '),
        ((200, '{"scores": ["a"]}'), 'not {"scores": '),
        ((200, '{"scores": [1, 2]}'), "gave 2 scores for 5 images"),
        ((200, '{"scores": "12345"}'), 'not {"scores": '),
        ((200, '{"scores": {"0": 1, "1": 1, "2": 1, "3": 1, "4": 1}}'), 'not {"scores": '),
        ((200, '{"scores": [1, 2, 3, 4, NaN]}'), 'not {"scores": '),
        ((302, ""), "it answered 302"),
    ],
)
def test_a_wrong_answer_is_said_and_not_repeated(server, answer, message):
    server.answers = [answer]
    with pytest.raises(RewardError, match=message.replace("{", r"\{").replace("[", r"\[")) as caught:
        RemoteReward(server.url, "mine")(IMAGES, PROMPTS)
    assert "'mine'" in str(caught.value)
    assert server.url in str(caught.value)
    assert len(server.requests) == 1


def test_a_slow_server_times_out(server):
    server.answers = [1.0, 1.0]
    with pytest.raises(RewardError, match=r"no answer within 0.2 s \(tried 2 times\); raise `timeout`"):
        RemoteReward(server.url, "mine", timeout=0.2, retries=1, backoff=0)(IMAGES, PROMPTS)


def test_no_server_at_all():
    with pytest.raises(RewardError, match=r"cannot be reached \(tried 2 times\); is the server running\?"):
        RemoteReward("http://127.0.0.1:9/score", "mine", retries=1, backoff=0)(IMAGES, PROMPTS)


def test_a_secret_in_the_url_is_not_shown():
    with pytest.raises(RewardError) as caught:
        RemoteReward("http://me:secret@127.0.0.1:9/score?token=abc", "mine", retries=0)(IMAGES, PROMPTS)
    assert "http://127.0.0.1:9/score:" in str(caught.value)
    assert "secret" not in str(caught.value) + RewardSpec(http="http://me:secret@host/x?token=abc").shown
    assert "abc" not in str(caught.value) + RewardSpec(http="http://me:secret@host/x?token=abc").shown


@pytest.mark.parametrize("options", [{"url": "ftp://x/y"}, {"url": "localhost:80"}, {"timeout": 0}, {"batch": 0}])
def test_bad_options(options):
    with pytest.raises(ValueError, match=r"URL|timeout"):
        RemoteReward(**({"url": "http://localhost/score", "name": "mine"} | options))

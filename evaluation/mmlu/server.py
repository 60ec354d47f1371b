"""What is asked of llama-server: the likeliest next tokens of a prompt."""

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from evaluation.errors import EvaluationError

TOP = 100
"""Tokens whose log-probabilities are asked for, as in the paper."""
_SECONDS = 600
_LOCAL = ("localhost", "127.0.0.1", "::1")


class Server:
    """A running llama-server."""

    def __init__(self, address: str) -> None:
        """Raises EvaluationError for what is no address."""
        try:
            parts = urllib.parse.urlsplit(address)
            sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # brackets, and ports
            sound = False
        if not sound:
            raise EvaluationError(f"{address!r} is no address of a server, such as http://127.0.0.1:8080")
        self.address = address.rstrip("/")
        # a proxy does not know what runs on this machine
        handlers = [urllib.request.ProxyHandler({})] if parts.hostname in _LOCAL else []
        self._opener = urllib.request.build_opener(*handlers)

    def top_tokens(self, prompt: str) -> list[tuple[str, float]]:
        """Text and log-probability of the up to 100 likeliest next tokens. Raises EvaluationError."""
        # the token that is picked must be whole text: after a part of a character the server gives no probabilities;
        # those that it gives are from before the grammar
        picked = {"n_predict": 1, "temperature": 0, "grammar": "root ::= [ -~]+"}
        body = {"prompt": prompt, "n_probs": TOP, "cache_prompt": True, **picked}
        answer = self._post("/completion", body)
        try:
            (position,) = answer["completion_probabilities"]
            return [(str(entry["token"]), float(entry["logprob"])) for entry in position["top_logprobs"]]
        except (KeyError, TypeError, ValueError, OverflowError):
            raise EvaluationError(
                f"{self.address} does not answer like llama-server (no top_logprobs for one token); check the address"
            ) from None

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        data, head = json.dumps(body).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, data, head)
        try:
            with self._opener.open(request, timeout=_SECONDS) as response:
                return json.load(response)
        except urllib.error.HTTPError as e:
            with e:
                said = _message(e.read())
            hint = "; give llama-server a larger -c" if "context" in said else ""
            raise EvaluationError(f"{self.address} refuses a prompt: {said or e.reason}{hint}") from None
        except (urllib.error.URLError, OSError) as e:
            reason = getattr(e, "reason", e)
            raise EvaluationError(
                f"nothing answers at {self.address} ({reason}); start it with llama-server -m MODEL.gguf --port PORT"
            ) from None
        except (ValueError, RecursionError):
            raise EvaluationError(f"{self.address} does not answer in JSON; is it llama-server?") from None


def _message(body: bytes) -> str:
    """The words of an error, in one line."""
    try:
        return " ".join(str(json.loads(body)["error"]["message"]).split())
    except (ValueError, KeyError, TypeError, RecursionError):
        return " ".join(body[:200].decode(errors="replace").split())

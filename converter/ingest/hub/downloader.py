"""Downloads files of a model into the hub's cache. Started as a script by fetch.

    python -P downloader.py ID REVISION FILES...

In a process of its own, as threads in the middle of a file cannot be ended. Prints a line of JSON: the `folder`, or
`kind` and `reason` of a failure.
"""

import errno
import glob
import json
import re
import sys

_MOST_LETTERS = 200
_CAUSE = re.compile(r"\[Errno -?\d+\] ([^'\")]+)")


def main() -> None:
    repository, revision, *files = sys.argv[1:]
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(repository, revision=revision, allow_patterns=[glob.escape(name) for name in files])
        answer = {"folder": folder}
    except Exception as error:
        kind, reason = failure_of(error)
        answer = {"kind": kind, "reason": reason}
    print(json.dumps(answer), flush=True)


def failure_of(error: BaseException) -> tuple[str, str]:
    """What kind of failure an error of huggingface_hub is, and why in a few words.

    `gated`, `revision` or `repository` (there is none that may be read), `token`, `answer` (another one of the hub's),
    `offline` (by the user's wish), `unreachable` (also when a connection broke), `disk` (it is full), or `other`.
    """
    import requests
    from huggingface_hub import errors

    one: BaseException | None = error
    while isinstance(one, errors.LocalEntryNotFoundError) and one.__cause__ is not None:
        one = one.__cause__  # it only says that the cache has no file either
    whole = " ".join(str(one).split())
    text = whole[:_MOST_LETTERS]
    if isinstance(one, errors.GatedRepoError):
        return "gated", text
    if isinstance(one, errors.RevisionNotFoundError):
        return "revision", text
    if isinstance(one, errors.RepositoryNotFoundError):
        return "repository", text
    if isinstance(one, errors.HfHubHTTPError) and one.response is not None:
        status, reason = one.response.status_code, one.server_message or one.response.reason or ""
        return ("token" if status == 401 else "answer"), f"{status} {' '.join(reason.split())[:_MOST_LETTERS]}"
    if isinstance(one, errors.OfflineModeIsEnabled):
        return "offline", text
    if isinstance(one, (requests.exceptions.RequestException, ConnectionError)):
        cause = _CAUSE.search(whole)
        is_late = isinstance(one, requests.exceptions.Timeout)
        return "unreachable", cause[1].strip() if cause else "it does not answer" if is_late else text
    if isinstance(one, OSError) and one.errno == errno.ENOSPC:
        return "disk", text
    return "other", f"{type(one).__name__}: {text}"


if __name__ == "__main__":
    main()

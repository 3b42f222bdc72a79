"""One file from a host that cuts, lies, redirects and loses patience."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
from bad_host import Answer, Host, dripping, endless, raw, redirect, silent, status, whole

from repro.fetch.download import Downloader, FetchError, Missing, Refused, Rules, Unanswered, Unsound, Wanted, part_of

BODY = random.Random(0).randbytes(300_000)
RULES = Rules(tries=3, first_pause=0.01, longest_pause=1.0, timeout=0.5, loopback=True)
TARGET = Path("folder/file")

Fetch = Callable[..., None]


def same_bytes(file: Path) -> None:
    if file.read_bytes() != BODY:
        raise Unsound("other bytes")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Host() as host:
        yield host


@pytest.fixture
def fetch(host: Host) -> Fetch:
    def fetch(
        *answers: Answer, rules: Rules = RULES, max_bytes: int = 10**6, max_seconds: float = 20.0, check=same_bytes
    ) -> None:
        url = host.on("/file", *answers)
        with Downloader(rules) as downloader:
            downloader.fetch(Wanted(url, TARGET, max_bytes, max_seconds, check))

    return fetch


def left_behind() -> list[str]:
    return sorted(file.name for file in TARGET.parent.iterdir() if file != TARGET)


def test_a_whole_file_is_put_in_its_place_and_nothing_beside_it(fetch: Fetch) -> None:
    fetch(whole(BODY, etag='"v1"'))
    assert TARGET.read_bytes() == BODY
    assert left_behind() == []


@pytest.mark.parametrize("cut", [1, 100_000, 299_999])
def test_a_cut_connection_is_continued_where_it_broke(fetch: Fetch, host: Host, cut: int) -> None:
    fetch(whole(BODY, etag='"v1"', cut=cut), whole(BODY, etag='"v1"'))
    assert TARGET.read_bytes() == BODY
    assert [(asked.range, asked.if_range) for asked in host.asked] == [(None, None), (f"bytes={cut}-", '"v1"')]
    assert left_behind() == []


def test_what_an_earlier_call_got_is_not_fetched_again(fetch: Fetch, host: Host) -> None:
    with pytest.raises(Unanswered):
        fetch(whole(BODY, etag='"v1"', cut=200_000), status(503))
    assert not TARGET.exists()
    assert part_of(TARGET).stat().st_size == 200_000
    fetch(whole(BODY, etag='"v1"'))
    assert host.asked[-1].range == "bytes=200000-"
    assert TARGET.read_bytes() == BODY


@pytest.mark.parametrize("etag", [None, 'W/"v1"', "v1"])
def test_without_a_strong_etag_it_begins_again(fetch: Fetch, host: Host, etag: str | None) -> None:
    fetch(whole(BODY, etag=etag, cut=100_000), whole(BODY, etag=etag))
    assert [asked.range for asked in host.asked] == [None, None]
    assert TARGET.read_bytes() == BODY


def test_another_version_is_fetched_from_its_start(fetch: Fetch, host: Host) -> None:
    old = BODY[::-1]
    fetch(whole(old, etag='"v1"', cut=100_000), whole(BODY, etag='"v2"'))
    assert host.asked[1].if_range == '"v1"'
    assert TARGET.read_bytes() == BODY


def test_the_mark_of_an_older_part_does_not_outlive_it(fetch: Fetch, host: Host) -> None:
    fetch(whole(BODY[::-1], etag='"v1"', cut=90_000), whole(BODY, cut=100_000), whole(BODY))
    assert [asked.range for asked in host.asked] == [None, "bytes=90000-", None]
    assert TARGET.read_bytes() == BODY


def test_a_host_that_ignores_ranges_is_read_from_the_start(fetch: Fetch) -> None:
    fetch(whole(BODY, etag='"v1"', cut=100_000), whole(BODY, etag='"v1"', ranges=False))
    assert TARGET.read_bytes() == BODY


@pytest.mark.parametrize(
    "part",
    [
        {"content_range": f"bytes 0-{len(BODY) - 1}/{len(BODY)}", "etag": '"v1"'},
        {"content_range": f"bytes 100000-{len(BODY) - 1}/{len(BODY)}", "etag": '"v2"'},
        {"content_range": f"bytes 100000-{len(BODY) - 1}/{len(BODY)}"},
        {"content_range": "bytes 100000-*/*", "etag": '"v1"'},
        {"etag": '"v1"'},
    ],
)
def test_a_part_that_was_not_asked_for_is_thrown_away(fetch: Fetch, host: Host, part: dict[str, str]) -> None:
    def wrong(request) -> None:
        request.head(206, content_length=200_000, **part)
        request.wfile.write(BODY[100_000:])

    fetch(whole(BODY, etag='"v1"', cut=100_000), wrong, whole(BODY, etag='"v1"'))
    assert [asked.range for asked in host.asked] == [None, "bytes=100000-", None]
    assert TARGET.read_bytes() == BODY


def test_a_part_of_other_bytes_is_found_out_and_fetched_in_one_piece(fetch: Fetch, host: Host) -> None:
    other = bytes(len(BODY))
    fetch(whole(other, etag='"v1"', cut=100_000), whole(BODY, etag='"v1"'), whole(BODY, etag='"v1"'))
    assert [asked.range for asked in host.asked] == [None, "bytes=100000-", None]
    assert TARGET.read_bytes() == BODY


def test_a_range_beyond_the_end_begins_again(fetch: Fetch, host: Host) -> None:
    fetch(whole(BODY * 2, etag='"v1"', cut=400_000), status(416), whole(BODY, etag='"v1"'))
    assert host.asked[-1].range is None
    assert TARGET.read_bytes() == BODY


def test_wrong_bytes_are_not_kept(fetch: Fetch, host: Host) -> None:
    with pytest.raises(Unsound, match="other bytes"):
        fetch(whole(BODY[::-1]))
    assert len(host.asked) == 1
    assert not TARGET.exists()
    assert left_behind() == []


@pytest.mark.parametrize("announced", [len(BODY) - 1, len(BODY) + 1])
def test_a_wrong_length_never_becomes_a_file(fetch: Fetch, announced: int) -> None:
    def wrong(request) -> None:
        request.head(200, content_length=announced)
        request.wfile.write(BODY)

    with pytest.raises((Unanswered, Unsound)):
        fetch(wrong)
    assert not TARGET.exists()


@pytest.mark.parametrize("answer", [endless, whole(BODY), status(200, content_encoding="gzip")])
def test_more_than_is_allowed_or_packed_is_refused(fetch: Fetch, host: Host, answer: Answer) -> None:
    with pytest.raises(Refused):
        fetch(answer, max_bytes=100_000)
    assert len(host.asked) == 1
    assert left_behind() == []


@pytest.mark.parametrize("answer", [silent, dripping])
def test_a_slow_host_is_given_up(fetch: Fetch, answer: Answer) -> None:
    started = time.monotonic()
    with pytest.raises(Unanswered):
        fetch(answer, rules=Rules(tries=2, first_pause=0.01, timeout=0.3, loopback=True), max_seconds=1.0)
    assert time.monotonic() - started < 3.0


def test_nobody_there_is_said_after_a_few_tries(host: Host) -> None:
    with Host() as closed:
        url = closed.on("/file")
    with Downloader(RULES) as downloader, pytest.raises(Unanswered, match="tried 3 times in a row"):
        downloader.fetch(Wanted(url, TARGET, 10, 20.0, same_bytes))


@pytest.mark.parametrize("code", [404, 410])
def test_a_missing_file_is_asked_for_once(fetch: Fetch, host: Host, code: int) -> None:
    with pytest.raises(Missing, match=str(code)):
        fetch(status(code))
    assert len(host.asked) == 1


@pytest.mark.parametrize("code", [401, 403, 206, 204, 451])
def test_any_other_answer_is_refused_at_once(fetch: Fetch, host: Host, code: int) -> None:
    with pytest.raises((Refused, Unanswered)):
        fetch(status(code))
    assert not TARGET.exists()


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_passing_fault_is_waited_out(fetch: Fetch, host: Host, code: int) -> None:
    fetch(status(code), status(code), whole(BODY))
    assert TARGET.read_bytes() == BODY


def test_failing_for_ever_is_given_up(fetch: Fetch, host: Host) -> None:
    with pytest.raises(Unanswered, match="503"):
        fetch(status(503))
    assert len(host.asked) == RULES.tries


def test_progress_between_faults_is_not_given_up(fetch: Fetch, host: Host) -> None:
    fetch(*[whole(BODY, etag='"v1"', cut=70_000)] * 4, whole(BODY, etag='"v1"'), rules=RULES)
    assert TARGET.read_bytes() == BODY


def test_retry_after_is_heeded_and_absurd_waits_are_not(fetch: Fetch, host: Host) -> None:
    started = time.monotonic()
    fetch(status(429, retry_after=1), whole(BODY))
    assert time.monotonic() - started >= 1.0
    for wait in (10**6, formatdate(time.time() + 10**6, usegmt=True)):
        with pytest.raises(Unanswered, match="come back in"):
            fetch(status(503, retry_after=wait))
    for nonsense in ("soon", "-5", "9" * 5000, formatdate(0, usegmt=True)):
        fetch(status(503, retry_after=nonsense), whole(BODY))


def test_redirects_are_followed_within_bounds(fetch: Fetch, host: Host) -> None:
    host.on("/there", whole(BODY))
    fetch(redirect("/there", 301))
    assert TARGET.read_bytes() == BODY
    with pytest.raises(Refused, match="more than 5 redirects"):
        fetch(redirect("/file"))


@pytest.mark.parametrize(
    "location",
    ["http://192.0.2.1/x", "ftp://127.0.0.1/x", "file:///etc/passwd", "https:///x", "//192.0.2.1/x", "http://["],
)
def test_redirects_lead_nowhere_else(fetch: Fetch, host: Host, location: str) -> None:
    with pytest.raises(Refused):
        fetch(redirect(location))
    assert len(host.asked) == 1
    assert not TARGET.exists()


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "http://example.org/x", "file:///etc/passwd", "x", "http://["])
def test_only_https_unless_a_test_says_otherwise(url: str) -> None:
    with Downloader(Rules()) as downloader, pytest.raises(Refused):
        downloader.fetch(Wanted(url, TARGET, 10, 1.0, same_bytes))


@pytest.mark.parametrize(
    "answer",
    [
        raw("nonsense"),
        raw("HTTP/1.1 200 OK", "content-length: minus one"),
        raw("HTTP/1.1 200 OK", "content-length: 5", "content-length: 6", body=b"12345"),
        raw("HTTP/1.1 200 OK", "transfer-encoding: chunked", body=b"zz\r\n"),
        raw("HTTP/1.1 302 Found", "location: \xff\xfe"),
        raw("HTTP/1.1 200 OK", "x: " + "y" * 200_000),
        raw("HTTP/1.1 999 Why", "content-length: 0"),
    ],
)
def test_nonsense_is_a_fetch_error(fetch: Fetch, answer: Answer) -> None:
    with pytest.raises(FetchError) as raised:
        fetch(answer)
    assert "\n" not in str(raised.value)
    assert not TARGET.exists()


@pytest.mark.parametrize("mark", ["", "{", "[]", '{"url": 1, "etag": 2}', '{"url": "elsewhere", "etag": "\\"v1\\""}'])
def test_a_part_of_unknown_origin_is_not_continued(fetch: Fetch, host: Host, mark: str) -> None:
    TARGET.parent.mkdir()
    part_of(TARGET).write_bytes(b"left over")
    part_of(TARGET).with_suffix(".part.json").write_text(mark)
    fetch(whole(BODY, etag='"v1"'))
    assert host.asked[0].range is None
    assert TARGET.read_bytes() == BODY
    assert left_behind() == []

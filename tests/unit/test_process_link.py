"""Two ends of a link in one process: what is said, what travels along, and what becomes of who waits."""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator
from itertools import chain

import orjson
import pytest

from gateway.process.link import Link, LinkLostError, Message, pair


class End:
    """One end, and all that it has heard; `replies` are its answers, by what it is asked."""

    def __init__(self, sock: socket.socket) -> None:
        self.link = Link(sock, self._hear, self._lose)
        self.heard: list[Message] = []
        self.files: list[int] = []
        self.replies: dict[str, Message | None] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.lost = 0

    async def _hear(self, message: Message, descriptors: list[int]) -> Message | None:
        self.heard.append(message)
        self.files += descriptors
        if gate := self.gates.get(message["do"]):
            await gate.wait()
        if message["do"] == "fail":
            raise ValueError("not like this")
        return self.replies.get(message["do"])

    def _lose(self) -> None:
        self.lost += 1

    @property
    def words(self) -> list[str]:
        return [message["do"] for message in self.heard]

    async def hears(self, count: int) -> None:
        """Wait until it has heard so many messages."""
        async with asyncio.timeout(2):
            while len(self.heard) < count:
                await asyncio.sleep(0)

    async def loses(self) -> None:
        async with asyncio.timeout(2):
            while not self.lost:
                await asyncio.sleep(0)


@pytest.fixture
async def ends() -> AsyncIterator[tuple[End, End]]:
    ours, theirs = (End(sock) for sock in pair())
    for end in (ours, theirs):
        end.link.open(asyncio.get_running_loop())
    try:
        yield ours, theirs
    finally:
        for end in (ours, theirs):
            end.link.close()
            for descriptor in end.files:
                os.close(descriptor)


async def test_what_is_told_arrives_in_order(ends: tuple[End, End]) -> None:
    ours, theirs = ends
    for number in range(100):
        ours.link.tell({"do": "count", "number": number, "text": "ü\n"})
    await theirs.hears(100)
    assert [message["number"] for message in theirs.heard] == list(range(100))
    assert theirs.heard[0] == {"do": "count", "number": 0, "text": "ü\n"}


async def test_both_ends_may_ask_at_once(ends: tuple[End, End]) -> None:
    ours, theirs = ends
    ours.replies["name"], theirs.replies["name"] = {"is": "ours"}, {"is": "theirs"}
    answers = await asyncio.gather(ours.link.ask({"do": "name"}, 2), theirs.link.ask({"do": "name"}, 2))
    assert [answer["is"] for answer in answers] == ["theirs", "ours"]


async def test_answers_find_their_questions_in_any_order(ends: tuple[End, End]) -> None:
    ours, theirs = ends
    theirs.gates["slow"] = asyncio.Event()
    theirs.replies.update(slow={"is": "slow"}, quick={"is": "quick"})
    slow = asyncio.ensure_future(ours.link.ask({"do": "slow"}, 2))
    quick = await ours.link.ask({"do": "quick"}, 2)
    assert (quick["is"], slow.done()) == ("quick", False)
    theirs.gates["slow"].set()
    assert (await slow)["is"] == "slow"


async def test_who_has_nothing_to_answer_answers_all_the_same(ends: tuple[End, End]) -> None:
    assert await ends[0].link.ask({"do": "anything"}, 2) == {}


async def test_a_descriptor_arrives_with_its_message(ends: tuple[End, End]) -> None:
    ours, theirs = ends
    reads, writes = os.pipe()
    ours.link.tell({"do": "take"}, (writes,))
    os.close(writes)  # what travels is a copy
    await theirs.hears(1)
    theirs.files.append(reads)
    os.write(theirs.files[0], b"through")
    assert os.read(reads, 20) == b"through"


async def test_of_several_messages_in_one_read_each_has_its_own_descriptors(ends: tuple[End, End]) -> None:
    ours, theirs = ends
    pipes = [os.pipe() for _ in range(5)]
    took: dict[str, list[int]] = {}

    async def hear(message: Message, descriptors: list[int]) -> None:
        took[message["do"]] = descriptors
        theirs.heard.append(message)

    theirs.link._hear = hear
    try:
        writes = [writing for _, writing in pipes]
        ours.link.tell({"do": "none"})
        ours.link.tell({"do": "one"}, writes[:1])
        ours.link.tell({"do": "none again"})
        ours.link.tell({"do": "three"}, writes[1:4])
        ours.link.tell({"do": "last"}, writes[4:])
        await theirs.hears(5)
        assert {name: len(given) for name, given in took.items()} == {
            "none": 0, "one": 1, "none again": 0, "three": 3, "last": 1,
        }  # fmt: skip
        given = took["one"] + took["three"] + took["last"]
        assert [os.fstat(descriptor).st_ino for descriptor in given] == [os.fstat(each).st_ino for each in writes]
    finally:
        for descriptor in chain(*pipes, *took.values()):
            os.close(descriptor)


async def test_an_answer_larger_than_one_read_arrives_whole(ends: tuple[End, End]) -> None:
    ours, theirs = ends
    errors = [f"routes.yaml:{line}:5: routes[{line}].upstream: there is no upstream 'orders'" for line in range(1500)]
    theirs.replies["reload"] = {"errors": errors}
    assert len(orjson.dumps(errors)) > 100_000
    assert (await ours.link.ask({"do": "reload"}, 2))["errors"] == errors


async def test_the_death_of_the_other_end_wakes_whoever_waits_for_it(ends: tuple[End, End]) -> None:
    ours, theirs = ends
    theirs.gates["never"] = asyncio.Event()
    waiting = [asyncio.ensure_future(ours.link.ask({"do": "never"}, 60)) for _ in range(3)]
    await theirs.hears(3)
    theirs.link.close()
    for task in waiting:
        with pytest.raises(LinkLostError, match="gone"):
            await task
    assert ours.lost == 1
    with pytest.raises(LinkLostError):
        await ours.link.ask({"do": "more"}, 60)
    with pytest.raises(LinkLostError):
        ours.link.tell({"do": "more"})
    assert ours.lost == 1
    theirs.gates["never"].set()  # answers to nobody are dropped without a word
    await asyncio.sleep(0)


async def test_what_was_said_before_the_end_is_heard(ends: tuple[End, End]) -> None:
    ours, theirs = ends
    ours.link.tell({"do": "failed", "reason": "x"})
    ours.link.close()
    await theirs.loses()
    await theirs.hears(1)
    assert theirs.words == ["failed"]


async def test_an_answer_that_comes_too_late_is_nobodys(ends: tuple[End, End]) -> None:
    ours, theirs = ends
    theirs.gates["late"] = asyncio.Event()
    with pytest.raises(TimeoutError):
        await ours.link.ask({"do": "late"}, 0.001)
    theirs.gates["late"].set()
    theirs.replies["next"] = {"is": "next"}
    assert (await ours.link.ask({"do": "next"}, 2))["is"] == "next"


async def test_who_takes_no_more_messages_is_lost_and_nobody_waits() -> None:
    sock, deaf = pair()
    ours = End(sock)
    ours.link.open(asyncio.get_running_loop())
    try:
        waiting = asyncio.ensure_future(ours.link.ask({"do": "answer"}, 60))
        await asyncio.sleep(0)
        with pytest.raises(LinkLostError):  # noqa: PT012 - which of them is one too many is the kernel's to say
            for _ in range(10_000):
                ours.link.tell({"do": "fill", "with": "x" * 1000})
        with pytest.raises(LinkLostError):
            await waiting
        assert ours.lost == 1
        deaf.setblocking(False)
        received = b""
        while data := deaf.recv(65536):  # to the end, not to BlockingIOError: our side has hung up
            received += data
        *lines, _ = received.split(b"\n")
        assert all(orjson.loads(line)["do"] in ("answer", "fill") for line in lines)
    finally:
        ours.link.close()
        deaf.close()


async def test_half_a_message_at_the_end_is_forgotten_and_its_descriptors_are_closed() -> None:
    sock, raw = pair()
    theirs = End(sock)
    theirs.link.open(asyncio.get_running_loop())
    reads, writes = os.pipe()
    try:
        socket.send_fds(raw, [b'{"do": "ha'], [writes])
        os.close(writes)
        raw.close()
        await theirs.loses()
        assert theirs.heard == []
        assert os.read(reads, 1) == b"", "somebody still holds the writing end"
    finally:
        theirs.link.close()
        os.close(reads)


async def test_a_question_that_fails_over_there_is_answered_and_logged(
    ends: tuple[End, End], caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = ends
    with caplog.at_level(logging.ERROR, "gateway.link"):
        assert (await ours.link.ask({"do": "fail"}, 2))["failed"] == "ValueError: not like this"
        ours.link.tell({"do": "fail"})
        await theirs.hears(2)
        await asyncio.sleep(0)
    assert [record.getMessage() for record in caplog.records] == ["the message 'fail' failed"] * 2
    theirs.replies["next"] = {"is": "next"}
    assert (await ours.link.ask({"do": "next"}, 2))["is"] == "next"


async def test_hanging_up_twice_is_no_error_and_nothing_is_lost_by_it(ends: tuple[End, End]) -> None:
    ours, _ = ends
    ours.link.close()
    ours.link.close()
    assert ours.lost == 0


def test_a_pair_is_not_inherited_by_other_programs() -> None:
    ours, theirs = pair()
    with ours, theirs:
        assert not ours.get_inheritable()
        assert not theirs.get_inheritable()

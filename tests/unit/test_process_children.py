"""Births and deaths of real children. Each test is a supervisor of its own in a fresh process: pytest has threads."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import textwrap

import pytest

from gateway.process.children import describe

BEGIN = """
import asyncio, atexit, os, signal, socket, sys, time
from gateway.process.children import Child, ChildError, Nursery, describe
from gateway.process.link import Link

nursery = Nursery()
heard = []

def say(*words):
    # One write: lines of several processes do not mix.
    os.write(1, (" ".join(map(str, words)) + chr(10)).encode())

async def hear(child, message):
    heard.append(message["do"])
    return {"answer": message["do"] * 2}

async def bear(life, close=lambda: None):
    return await nursery.bear(life, hear, close)

def living(answer=None):
    # A child that answers until its supervisor is gone.
    def life(sock):
        async def live():
            gone = asyncio.Event()
            link = Link(sock, answer or nothing, gone.set)
            link.open(asyncio.get_running_loop())
            link.tell({"do": "ready"})
            await gone.wait()
            return 0
        return asyncio.run(live())
    return life

async def nothing(message, descriptors):
    return {}

async def begin():
    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, nursery.bury)
"""

END = """
say("status", nursery.run(main))
"""


def supervise(main: str) -> list[str]:
    """What a supervisor whose life is `main` prints, and its children with it."""
    script = BEGIN + textwrap.dedent(main) + END
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False)
    assert ran.stderr == "", ran.stderr
    return ran.stdout.splitlines()


def test_a_child_does_its_work_and_ends_with_its_status() -> None:
    said = supervise("""
        async def main():
            await begin()
            for life in (lambda sock: 0, lambda sock: 3, lambda sock: os.kill(os.getpid(), signal.SIGKILL)):
                child = await bear(life)
                say(describe(await child.exited), child.ready)
            say("left", nursery.children)
            return 7
    """)
    assert said == ["exit status 0 False", "exit status 3 False", "SIGKILL False", "left {}", "status 7"]


def test_a_child_begins_answers_and_is_answered() -> None:
    said = supervise("""
        def life(sock):
            async def live():
                done = asyncio.Event()
                async def hear(message, descriptors):
                    os.write(descriptors[0], b"hello")
                    return {"heard": message["do"]}
                link = Link(sock, hear, done.set)
                link.open(asyncio.get_running_loop())
                link.tell({"do": "ready"})
                answer = await link.ask({"do": "ping"}, 5)
                say(answer["answer"])
                await done.wait()
                return 0
            return asyncio.run(live())

        async def main():
            await begin()
            child = await bear(life)
            say(child.ready)
            await child.begun
            reads, writes = os.pipe()
            say(child.ready, (await child.ask({"do": "write"}, 5, (writes,)))["heard"], os.read(reads, 10).decode())
            while not heard: await asyncio.sleep(0.01)
            child.link.close()
            say(await child.exited, child.ready)
            return 0
    """)
    assert sorted(said) == sorted(["False", "True write hello", "pingping", "0 False", "status 0"])


def test_many_are_born_at_once() -> None:
    said = supervise("""
        async def main():
            await begin()
            children = await asyncio.gather(*(bear(living()) for _ in range(10)))
            await asyncio.gather(*(child.begun for child in children))
            say(len({child.pid for child in children}), all(child.ready for child in children))
            for child in children: child.kill()
            say({describe(status) for status in await asyncio.gather(*(child.exited for child in children))})
            return 0
    """)
    assert said == ["10 True", "{'SIGKILL'}", "status 0"]


def test_a_child_that_ends_before_it_has_begun_could_not_begin() -> None:
    said = supervise("""
        async def main():
            await begin()
            child = await bear(lambda sock: 3)
            try:
                await child.begun
            except ChildError as error:
                say(error)
            say(await child.exited)
            return 0
    """)
    assert said == ["a process ended at its start: exit status 3", "3", "status 0"]


def test_a_reason_is_heard_before_the_end_however_busy_the_supervisor_is() -> None:
    """Who has failed asks, and so waits until it has been heard: the end may be known before the last words."""
    said = supervise("""
        def failing(sock):
            async def live():
                link = Link(sock, nothing, lambda: None)
                link.open(asyncio.get_running_loop())
                await link.ask({"do": "failed", "reason": "cannot read key.pem"}, 5)
                return 1
            return asyncio.run(live())

        async def main():
            await begin()
            for _ in range(3):
                child = await bear(failing)
                time.sleep(0.2)
                nursery.bury()
                try:
                    await child.begun
                except ChildError as error:
                    say(error)
            return 0
    """)
    assert said == ["cannot read key.pem"] * 3 + ["status 0"]


def test_signals_to_the_whole_group_do_not_reach_a_child() -> None:
    said = supervise("""
        async def main():
            await begin()
            child = await bear(living())
            await child.begun
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
                os.kill(child.pid, number)
            say(await child.ask({"do": "anything"}, 5))
            child.kill()
            say(describe(await child.exited))
            return 0
    """)
    assert said == ["{}", "SIGKILL", "status 0"]


def test_a_childs_own_children_get_their_signals_as_usual() -> None:
    said = supervise("""
        def life(sock):
            say(signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL)
            return 0

        async def main():
            await begin()
            await (await bear(life)).exited
            return 0
    """)
    assert said == ["True", "status 0"]


def test_who_does_not_answer_in_time_is_ended() -> None:
    said = supervise("""
        async def forever(message, descriptors):
            await asyncio.Event().wait()

        async def main():
            await begin()
            child = await bear(living(forever))
            await child.begun
            say(await child.ask({"do": "anything"}, 0.05))
            say(describe(await child.exited))
            child.tell({"do": "anything"})
            say(await child.ask({"do": "anything"}, 5))
            return 0
    """)
    assert said == ["{'gone': True}", "SIGKILL", "{'gone': True}", "status 0"]


ORPHANED = """
def life(sock):
    living()(sock)
    say("noticed")
    sys.stdin.read()  # as a worker drains: it lives on for a while, with all that it holds

async def main():
    await begin()
    children = [await bear(life) for _ in range(4)]
    await asyncio.gather(*(child.begun for child in children))
    os.kill(os.getpid(), signal.SIGKILL)

nursery.run(main)
"""


def test_all_children_notice_the_death_of_their_supervisor_at_once() -> None:
    """No sibling may hold the supervisor's end of another one's link: that one would not see it close."""
    said = b""
    command = [sys.executable, "-c", BEGIN + ORPHANED]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True
    ) as process:
        assert process.stdout is not None
        try:
            while said.count(b"noticed") < 4 and select.select([process.stdout], [], [], 5)[0]:
                said += os.read(process.stdout.fileno(), 100)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert said.split() == [b"noticed"] * 4


def test_a_child_lets_go_of_what_it_is_told_to_and_keeps_the_rest() -> None:
    said = supervise("""
        async def main():
            await begin()
            kept, foreign = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
            def life(sock):
                say(kept.fileno() > 0, foreign.fileno())
                return 0
            await (await bear(life, foreign.close)).exited
            say(foreign.fileno() > 0)
            kept.close(), foreign.close()
            return 0
    """)
    assert said == ["True -1", "True", "status 0"]


def test_what_the_supervisor_wanted_to_print_or_do_at_its_end_is_done_once() -> None:
    said = supervise("""
        async def main():
            await begin()
            atexit.register(say, "at exit")
            sys.stdout.write("buffered ")
            try:
                await (await bear(lambda sock: 0)).exited
            finally:
                say("finally")
            return 0
    """)
    assert said == ["buffered finally", "status 0", "at exit"]


def test_a_crash_is_told_with_its_traceback_and_a_status() -> None:
    script = BEGIN + textwrap.dedent("""
        async def main():
            await begin()
            say(await (await bear(lambda sock: 1 // 0)).exited)
            return 0
        nursery.run(main)
    """)
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False)
    assert ran.stdout == "1\n"
    assert ran.stderr.rstrip().endswith("ZeroDivisionError: integer division or modulo by zero")


def test_as_the_first_process_it_buries_strangers_too() -> None:
    said = supervise("""
        async def main():
            await begin()
            child = await bear(living())
            await child.begun
            stranger = os.fork()
            if stranger == 0:
                os._exit(5)
            async with asyncio.timeout(5):
                while os.path.exists(f"/proc/{stranger}"):
                    await asyncio.sleep(0.01)
            say(child.ready)
            child.kill()
            await child.exited
            return 0
    """)
    assert said == ["True", "status 0"]


def test_a_birth_that_nobody_waits_for_any_more_does_not_happen() -> None:
    said = supervise("""
        async def main():
            await begin()
            birth = asyncio.ensure_future(bear(living()))
            await asyncio.sleep(0)
            birth.cancel()
            await asyncio.gather(birth, return_exceptions=True)
            await asyncio.sleep(0.05)
            say(nursery.children)
            return 0
    """)
    assert said == ["{}", "status 0"]


def test_a_system_that_has_no_room_for_another_process_ends_nothing() -> None:
    said = supervise("""
        fork = os.fork
        def full():
            raise BlockingIOError(11, "Resource temporarily unavailable")

        async def main():
            await begin()
            os.fork = full
            try:
                await bear(living())
            except ChildError as error:
                say(error)
            os.fork = fork
            child = await bear(lambda sock: 0)
            say(await child.exited)
            return 0
    """)
    assert said == ["cannot start a process: Resource temporarily unavailable", "0", "status 0"]


@pytest.mark.parametrize(
    ("status", "words"),
    [(0, "exit status 0"), (3, "exit status 3"), (-9, "SIGKILL"), (-15, "SIGTERM"), (-63, "signal 63")],
)
def test_a_status_in_words(status: int, words: str) -> None:
    assert describe(status) == words

"""Answers by itself, with what the configuration has prepared, and asks no upstream. Pure, but for its place."""

from gateway.exchange import Call, Reply
from gateway.pipe import Send
from gateway.transform.answer import Content


def respond(status: int, content: Content[Call]) -> Send:
    async def answer(call: Call) -> Reply:
        call.reason = "respond"
        return Reply(status, *content.fill(call))

    return answer

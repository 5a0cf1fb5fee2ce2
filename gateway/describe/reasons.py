"""Why each stage of a route is there, and why in its place: one line for each name that `stages` uses."""

from typing import Literal, NamedTuple

Part = Literal["door", "road"]


class Why(NamedTuple):
    """What a stage is for."""

    part: Part
    """The door only passes or refuses; the road wraps what it does around every try below it."""
    reason: str


def _door(reason: str) -> Why:
    return Why("door", reason)


def _road(reason: str) -> Why:
    return Why("road", reason)


WHY = {
    "cors": _door("before anybody may be refused, so that the page that asked can read a refusal, too"),
    "addresses": _door("who may not come at all is sent away before anything is spent on them"),
    "version": _door("which version is meant decides who answers, and one that has ended answers nobody"),
    "body": _door("what is too large is refused by its announcement, before it is read"),
    "identify": _door("nobody can be permitted or counted before it is known who calls"),
    "permit": _door("who may not do this shall not use up a limit by trying"),
    "shed": _door("with more to do than can be done, unimportant requests are turned away before they cost more"),
    "limit": _door("taken once for each request, before the road, so that retries do not cost the caller more"),
    "compress": _road("the last to touch the body, whoever made it"),
    "security": _road("added to every reply of the route, to those of fallbacks, too"),
    "reply": _road("changes what the client sees, whoever has answered"),
    "idempotency": _road("a reply that was given before needs nothing of what follows"),
    "concurrency": _road("those who are inside at the same time use up what is scarce: a place first, then the work"),
    "transform": _road("before anybody is asked, so that every try and every fallback asks for the same"),
    "mirror": _road("copies what is sent, without waiting for what becomes of it"),
    "fallback": _road("has the last word over every failure below, even over a deadline that has passed"),
    "fault": _road("stands in the place of the upstream, so that everything above can be rehearsed"),
    "redirect": _road("answers in the place of an upstream"),
    "respond": _road("answers in the place of an upstream"),
    "split": _road("chooses once for each request which upstream answers, before anything of that upstream begins"),
    "deadline": _road("one clock for everything below, waits included"),
    "quota": _road("an upstream that has had enough is not asked again, by no retry either"),
    "retry": _road("outside the breaker, so that each try is judged and an open circuit ends the retries"),
    "hedge": _road("a second try beside a late one counts as one to the retry, however many race"),
    "balance": _road("outside the breaker, because each target has a circuit of its own"),
    "breaker": _road("admits and judges each try, so that a target that fails is left alone"),
    "ejection": _road("sets a target aside that fails one try after the other while others answer"),
    "try": _road("one request on one connection to one target"),
}

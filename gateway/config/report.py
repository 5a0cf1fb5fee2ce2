"""Collects complaints about the values of one file, each at its place."""

from collections.abc import Collection, Iterable

from gateway.config.complaints import Complaint, hint
from gateway.config.places import Path, Places

MOST_SUGGESTIONS = 20
"""Comparing names is slow (40 ms among 10,000), and nobody reads more of them."""


class Report:
    """Call it with a path and what is wrong there."""

    def __init__(self, file: str, places: Places, complaints: Iterable[Complaint]) -> None:
        self.complaints = list(complaints)
        self._file = file
        self._places = places
        self._suggestions = 0
        # A value that could not even be read deserves no second complaint.
        self._settled = {(complaint.line, complaint.column) for complaint in self.complaints}

    def __call__(
        self,
        path: Path,
        message: str,
        *,
        key: bool = False,
        missing: str = "",
        word: object = None,
        among: Collection[str] = (),
    ) -> None:
        """Complain about the value at `path`, about its key, or about what is `missing` in it.

        `word` is what was written where one of `among` belongs.
        """
        place = self._places.of(path, key=key, missing=missing)
        if not missing and place[:2] in self._settled:
            return
        if among and self._suggestions < MOST_SUGGESTIONS:
            self._suggestions += 1
            message += hint(word, among)
        self.complaints.append(Complaint(self._file, place.line, place.column, place.key, message))

    def line(self, path: Path) -> int:
        return self._places.of(path).line

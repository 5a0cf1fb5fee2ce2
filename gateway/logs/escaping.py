"""What is not printable, as an escape: line ends, terminal sequences, C1, directions of writing, lone surrogates.

Pure.
"""


def escaped(text: str) -> str:
    r"""`text` with \n, \x1b, \u2028 and such for what is not printable."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)

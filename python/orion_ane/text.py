"""Text at the edge of the program: what comes in must be Unicode, what goes out must be whole."""

from __future__ import annotations

import codecs

from orion_ane._core import Error


def require_unicode(text: str, what: str = "prompt") -> str:
    """Returns `text`; Error if UTF-8 cannot hold it (undecodable bytes arrive as surrogates)."""
    if not isinstance(text, str):
        raise Error(f"{what}: expected str, got {type(text).__name__}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise Error(
            f"{what}: character {error.start} is U+{code:04X}, half of a surrogate pair or a byte "
            "that was not UTF-8; give valid Unicode text"
        ) from error
    return text


class Utf8Assembler:
    """Turns bytes that arrive in any pieces into text, holding back incomplete characters.

    Bytes that can never become a character turn into U+FFFD, as UTF-8 decoders do.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, data: bytes) -> str:
        """The text that is complete now."""
        return self._decoder.decode(data)

    def finish(self) -> str:
        """What is left: U+FFFD for a character that was never completed, else nothing."""
        return self._decoder.decode(b"", final=True)

"""How the library refuses what it cannot use."""


class PicturesError(Exception):
    """Pictures, tables or archives that cannot be used: each argument is a problem, in a sentence.

    It names the file, the place and the remedy.
    """

    def __str__(self) -> str:
        return "\n".join(self.args)

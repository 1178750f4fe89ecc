"""The errors that end in a sentence instead of a traceback."""


class UserError(ValueError):
    """
    A mistake in what the user gave, told in one sentence.

    The sentence names the value received, the values allowed and the remedy. The command line
    prints it and leaves with 2.
    """


class RunError(RuntimeError):
    """
    Something that was asked rightly and did not work out, told in a few sentences.

    The command line prints them and leaves with 1.
    """

"""The errors a user can mend."""


class UserError(ValueError):
    """
    A mistake in what the user gave, told in one sentence.

    The sentence names the value received, the values allowed and the remedy. The command line
    prints it without a traceback.
    """

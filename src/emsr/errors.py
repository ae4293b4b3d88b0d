"""The one exception of the package.

``InputError`` says that what the user handed in cannot be used. Its message is one line: what was
found, what was expected, what to do. Every other exception is a bug of ours.
"""


class InputError(Exception):
    """The user's input is at fault; the message is one line: found, expected, what to do."""

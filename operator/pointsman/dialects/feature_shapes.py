"""Where the features of a request stand in its body: shapes without a decision, for `features.py`. Pure.

In a file of their own because compiled modules do not keep the annotations that msgspec makes its decoders from.
"""

from __future__ import annotations

import msgspec


class Fields(msgspec.Struct, gc=False):
    messages: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    instructions: msgspec.Raw = msgspec.Raw()
    tools: msgspec.Raw = msgspec.Raw()
    functions: msgspec.Raw = msgspec.Raw()
    user: msgspec.Raw = msgspec.Raw()
    safety_identifier: msgspec.Raw = msgspec.Raw()


class Message(msgspec.Struct, gc=False):
    role: str = ""
    content: msgspec.Raw = msgspec.Raw()

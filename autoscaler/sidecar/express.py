"""How does a decision cost no more than an ASGI application that decides nothing?

Of the time that a raw ASGI application takes, most is uvicorn's: a scope, a task, an event and two messages per request. A
request that is there whole with one read, as nearly all are that a gateway sends, needs none of them: the parser has just
called back, and the desk answers without waiting for anything. So its answer is written from within that call.

Every other request (in parts, in a pipeline behind another, with an encoded path, HEAD, `expect: 100-continue`) goes to the ASGI
application (hot.py) as if this were not here; both ask the same desk and send the same bytes. How much it saves is a figure of
`make bench NAME=sidecar`.
"""

from __future__ import annotations

from typing import cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from autoscaler.sidecar.bounds import IDLE_S, PATIENCE_S, BoundedProtocol
from autoscaler.sidecar.desk import Desk
from autoscaler.sidecar.skins import Skin, skin_of_target

EXPECT = b"expect"


class ExpressProtocol(BoundedProtocol):
    """Answers what asks the `desk` and is there whole; passes on the rest."""

    desk: Desk
    skin: Skin | None = None  # of the request that is being read, while it may still be answered here
    got = b""
    fields: dict[bytes, bytes]

    def data_received(self, data: bytes) -> None:
        """What was not whole after this goes the long way."""
        super().data_received(data)
        if self.skin is not None:
            got, self.skin = self.got, None
            self._go_the_long_way()
            if got:
                super().on_body(got)

    def on_message_begin(self) -> None:
        """The first byte of a request; the scope that uvicorn would make of it now is made when it is needed."""
        self.url, self.fields, self.head_bytes = b"", {}, 0
        self.since_s = self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of its headers. One that comes twice counts as it comes last."""
        self.fields[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Its head is whole: whose is it?"""
        self.skin = skin_of_target(self.url)
        if self.skin is None or not self._short():
            self.skin = None
            self._go_the_long_way()
            return
        self.got, self.head_bytes = b"", None

    def _go_the_long_way(self) -> None:
        url = self.url
        super().on_message_begin()
        self.url, self.expect_100_continue = url, self.fields.get(EXPECT, b"").lower() == b"100-continue"
        self.headers += self.fields.items()  # the list that stands in the scope
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of its body."""
        if self.skin is None:
            super().on_body(body)
        else:
            self.got += body

    def on_message_complete(self) -> None:
        """It is whole."""
        if self.skin is None:
            super().on_message_complete()
            return
        skin, self.skin = self.skin, None
        self.transport.write(self.desk.answer(skin, self.fields, self.got).wire)
        self.since_s = (
            self.loop.time() + IDLE_S - PATIENCE_S
        )  # an idle connection is let be for longer than an unfinished request
        if not self.parser.should_keep_alive():
            self.transport.close()

    def _short(self) -> bool:
        """May it be answered here, if it is whole?"""
        before = cast("RequestResponseCycle | None", self.cycle)
        busy = before is not None and not before.response_complete
        return not (busy or EXPECT in self.fields or self.parser.should_upgrade() or self.parser.get_method() == b"HEAD")


def express(desk: Desk) -> type[ExpressProtocol]:
    """The protocol of one desk: uvicorn makes one of these per connection."""
    return type("Express", (ExpressProtocol,), {"desk": desk})

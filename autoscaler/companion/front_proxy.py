"""Which front proxy is trusted right now?

What stands in kube-system/extension-apiserver-authentication: the authority that signs the API server's client certificate
goes to the TLS side (tls.py), its names and headers to callers.py. A peer is
believed if both agree.

Nothing is trusted before the ConfigMap was read once. Afterwards what was read last holds while the API server is silent,
which is exactly when nobody could be asked; a ConfigMap that is gone, or that cannot be read, trusts nobody from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cryptography.x509 import Certificate

from autoscaler.companion.callers import CONFIG_MAP, FrontProxy, front_proxy
from autoscaler.companion.certificates import certificates
from autoscaler.refusal import Refusal

NAMESPACE = "kube-system"
AUTHORITIES = "requestheader-client-ca-file"

Data = Mapping[str, str]


class Trusted:
    """`look` gives the ConfigMap's data (None: there is no such ConfigMap) or, as a Refusal, why it is not known. `believe`
    takes the authorities (PEM; empty: none) to the TLS side and raises ValueError for what is none.
    """

    def __init__(self, look: Callable[[], Data | Refusal | None], believe: Callable[[str], None]) -> None:
        self._look, self._believe = look, believe
        self._data: Data | None = None
        self.current: FrontProxy | None = None
        self.trouble = f"ConfigMap {NAMESPACE}/{CONFIG_MAP} was not read yet: no caller is believed"

    def learn(self) -> bool:
        """Look anew; whether an authority is trusted no more."""
        found, before = self._look(), self._authorities()
        if isinstance(found, Refusal):
            self.trouble = f"ConfigMap {NAMESPACE}/{CONFIG_MAP}: {found}" + ("" if self.current else ": no caller is believed")
            return False
        if self.current is None or found != self._data:
            self._data = found
            self._trust(found or {})
        else:
            self.trouble = ""
        return bool(before - self._authorities())

    def _trust(self, data: Data) -> None:
        authorities = data.get(AUTHORITIES, "")
        try:
            if not authorities:
                raise Refusal(f"{AUTHORITIES} is not there: this API server passes nothing on")
            proxy = front_proxy(data)
            self._believe(authorities)
        except (Refusal, ValueError) as error:
            self.current = None
            self._believe("")
            self.trouble = f"ConfigMap {NAMESPACE}/{CONFIG_MAP}: {error}: no caller is believed"
        else:
            self.current, self.trouble = proxy, ""

    def _authorities(self) -> set[Certificate]:
        """Those that are trusted now."""
        return set(certificates(self._data[AUTHORITIES].encode())) if self._data and self.current else set()

"""How fast is one replica?

Its timing is affine (reference/models.md B; DistServe and Splitwise use the same shapes), in seconds:
    prefill of n uncached tokens   s(n) = a0 + a1*n + a2*n^2
    decode step of B requests      t(B) = b0 + b1*B + b2*(resident tokens)

Decode may have a second piece, other coefficients from so many requests on: large batches are bound by compute, small ones
by memory. DistServe found the bend of OPT-13B on an A100 at 95 requests, where one more costs 0.158 ms and not 0.039 ms.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReplicaProfile:
    """How fast one replica is. Seconds and tokens; `kv_tokens` is what its KV cache holds.

    `decode_beyond`: from so many requests on, these coefficients of a step, which must not make it shorter
    (`shorter_beyond`).
    """

    name: str
    prefill_s: tuple[float, float, float]
    decode_s: tuple[float, float, float]
    kv_tokens: int
    max_seqs: int = 256
    kv_bytes_per_token: int = 131_072
    link_bytes_per_s: float = 25e9
    link_base_s: float = 0.001
    decode_beyond: tuple[float, tuple[float, float, float]] | None = None

    def prefill_time_s(self, uncached_tokens: float) -> float:
        """Seconds to prefill one prompt alone."""
        a0, a1, a2 = self.prefill_s
        return a0 + a1 * uncached_tokens + a2 * uncached_tokens * uncached_tokens

    def mean_prefill_time_s(self, uncached_tokens: float, cv2: float) -> float:
        """Seconds per prompt over prompts of this mean length and squared coefficient of variation: E[n^2] is
        (1 + cv2) times the mean's square. Mooncake's prompts on a 70B model (12,035 tokens, cv2 1.7) take 0.88 s on
        average, the average prompt only 0.58 s; sized by that one a pool would be asked for less than it can do.
        """
        return self.prefill_time_s(uncached_tokens) + self.prefill_s[2] * cv2 * uncached_tokens * uncached_tokens

    def step_time_s(self, requests: float, resident_tokens: float) -> float:
        """Seconds of one decode step: every resident request gains one token."""
        b0, b1, b2 = self.decode_at(requests)
        return b0 + b1 * requests + b2 * resident_tokens

    def decode_at(self, requests: float) -> tuple[float, float, float]:
        """b0, b1, b2 of a step of so many requests."""
        beyond = self.decode_beyond
        return self.decode_s if beyond is None or requests < beyond[0] else beyond[1]

    @property
    def shorter_beyond(self) -> tuple[float, float] | None:
        """Seconds of a step just before and at the bend, if one more request there makes it shorter; None if all is well.

        Both pieces are lines in the tokens held, so the bend is looked at with an empty and with a full cache.
        """
        if self.decode_beyond is None:
            return None
        bend, (c0, c1, c2) = self.decode_beyond
        b0, b1, b2 = self.decode_s
        pairs = [(b0 + b1 * bend + b2 * held, c0 + c1 * bend + c2 * held) for held in (0, self.kv_tokens)]
        return next((pair for pair in pairs if pair[1] < pair[0]), None)

    def transfer_time_s(self, tokens: float) -> float:
        """Seconds to hand `tokens` of KV from prefill to decode over an idle link."""
        return self.link_base_s + tokens * self.kv_bytes_per_token / self.link_bytes_per_s

"""How fast is one replica?

Its timing is affine (reference/models.md B; DistServe and Splitwise use the same shapes), in seconds:
    prefill of n uncached tokens   s(n) = a0 + a1*n + a2*n^2
    decode step of B requests      t(B) = b0 + b1*B + b2*(resident tokens)
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReplicaProfile:
    """How fast one replica is. Seconds and tokens; `kv_tokens` is what its KV cache holds."""

    name: str
    prefill_s: tuple[float, float, float]
    decode_s: tuple[float, float, float]
    kv_tokens: int
    max_seqs: int = 256
    kv_bytes_per_token: int = 131_072
    link_bytes_per_s: float = 25e9
    link_base_s: float = 0.001

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
        b0, b1, b2 = self.decode_s
        return b0 + b1 * requests + b2 * resident_tokens

    def transfer_time_s(self, tokens: float) -> float:
        """Seconds to hand `tokens` of KV from prefill to decode over an idle link."""
        return self.link_base_s + tokens * self.kv_bytes_per_token / self.link_bytes_per_s

"""What do Dynamo's planners know of a replica?

Both work from a profiling run: prefill at 16 prompt lengths, decode at 6 loads (reference/peers.md, Dynamo 1.7, default
sweep). Here the replica profile is what is sampled; between the samples they interpolate or fit lines as Dynamo does.

    PrefillTable   TTFT and prompt tokens/s of one replica by prompt length, linear in between
    decode_rate    tokens/s of one replica at a context length: of 6 equally spaced batches up to what KV and sequences
                   allow, interpolated to 100 loads, the fullest whose time per token meets the target; the emptiest if none
    prefill_line   least squares T(n) = c0 + c1 n over those prompt lengths, in seconds. The profile's square term goes into
                   the line, so long prompts look faster than they are
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autoscaler.core.profile import ReplicaProfile

PROMPTS = tuple(512.0 * step for step in range(1, 17))  # 512 .. 8,192 tokens
LOADS = 6
SCAN = 100


@dataclass(frozen=True, slots=True)
class PrefillTable:
    """Seconds and tokens per second of one replica, by prompt length in tokens."""

    prompts: tuple[float, ...]
    ttft_s: tuple[float, ...]
    tokens_per_s: tuple[float, ...]

    @classmethod
    def of(cls, profile: ReplicaProfile, prompts: tuple[float, ...] = PROMPTS) -> PrefillTable:
        """Sample a replica profile."""
        times = tuple(profile.prefill_time_s(tokens) for tokens in prompts)
        return cls(prompts, times, tuple(tokens / time_s for tokens, time_s in zip(prompts, times, strict=True)))

    def ttft_at(self, prompt: float) -> float:
        """Seconds to the first token without waiting; the nearest sample beyond the table's ends."""
        return float(np.interp(prompt, self.prompts, self.ttft_s))

    def rate_at(self, prompt: float) -> float:
        """Prompt tokens per second."""
        return float(np.interp(prompt, self.prompts, self.tokens_per_s))


def decode_rate(profile: ReplicaProfile, itl_s: float, context_tokens: float) -> float:
    """Tokens per second of one decode replica whose time per token stays within `itl_s` at this context."""
    most = min(float(profile.max_seqs), profile.kv_tokens / max(1.0, context_tokens))
    batches = [max(1.0, most * step / LOADS) for step in range(1, LOADS + 1)]
    times = [profile.step_time_s(batch, batch * context_tokens) for batch in batches]
    rates = [batch / time_s for batch, time_s in zip(batches, times, strict=True)]
    scan = np.linspace(batches[0], batches[-1], SCAN)
    meets = np.interp(scan, batches, times) <= itl_s * (1 + 1e-9)
    chosen = scan[meets][-1] if meets.any() else scan[0]
    return float(np.interp(chosen, batches, rates))


def prefill_line(profile: ReplicaProfile) -> tuple[float, float]:
    """(c0, c1): seconds, and seconds per token."""
    slope, constant = np.polyfit(PROMPTS, [profile.prefill_time_s(tokens) for tokens in PROMPTS], 1)
    return float(constant), float(slope)

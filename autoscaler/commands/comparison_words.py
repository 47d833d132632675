"""What does somebody need to be told who has never seen the project? The words of the report; its figures are in
comparison_page.py.
"""

from __future__ import annotations

PLAYED = """
<p class="lead">A large language model can be served by two pools of GPUs: one reads the prompts (<b>prefill</b>), one writes the
answers (<b>decode</b>). Traffic moves, GPUs cost money, and a new copy of the model takes minutes to start. An
<b>autoscaler</b> decides, again and again, how many copies (<b>replicas</b>) of each pool run. This report lets {policies}
autoscalers play {situations} in a simulator and asks of each: did the users get their answers in time, and
for how many GPU-hours?</p>
<ul>
<li><b>Attainment</b>: of all requests that users sent, the share answered as promised: the first word in time (TTFT) and the
others fast enough (TPOT). A request that was turned away, lost or not finished counts as missed. More is better; here
<b>{attainment}</b> is required.</li>
<li><b>GPU-hours</b>: what it cost. Every GPU counts from the moment it is asked for until it is given back, starting and
emptying included. Less is better, among those that reach the required attainment.</li>
<li><b>pd-autoscaler</b> is the project this report comes from. A <b>peer</b> is another project's rule (Kubernetes' HPA, llm-d,
NVIDIA Dynamo and others), rebuilt from what was published about it: its authors may run it otherwise.</li>
{told}
</ul>
"""
REFERENCES = """<li>A <b>reference</b> (in <i>italics</i>) is no autoscaler that one could run: it knows all traffic beforehand,
and shows what is possible. <i>lower-bound</i>: the GPU time of the work itself, nobody can be cheaper. <i>oracle</i>: the
cheapest plan found with the same delays as everybody. <i>best-static</i>: the cheapest fleet of fixed size. Both stand from the
first second. <i>clairvoyant-flipper</i>: a fleet of fixed size, split between the pools as the requests of each half minute
need it; a yardstick, and no bound, for it does not see who still waits.</li>"""
MATRIX = """<p>One row for each situation (<code>@60s</code>: a new replica takes 60 s to start), one column for each
autoscaler{point}. <b>A number in plain ink is the GPU-hours of
somebody who reached {attainment}</b>, the cheapest of them marked. <span class="below">A grey share is the attainment of
somebody who did not.</span> A dash: nothing was played, the section says why. The name leads to the section.</p>"""
HOW = """
<h2 id="how">How to read the tables and pictures</h2>
<p><b>The table of a situation</b> has one line for each run: first those that reached the required attainment, the cheapest
first, then the others in grey. Point at a heading, or look into the <a href="#glossary">glossary</a>, to learn what it means.
<b>Headroom</b> in bold is the setting that an autoscaler was published with.</p>
<p><b>The plot of attainment against GPU-hours.</b> Each mark is one whole run: up is better, left is cheaper, and the axis is
stretched towards 100 %. An autoscaler has one knob for how generous it is; where it was played at several settings its marks are
joined, and <b>one autoscaler is better than another where its line runs above and to the left</b>. Each has a mark of its own,
named above the plot. The dashed level line is the
required attainment, the dotted upright line the lower bound. Point at a mark to see its setting and figures.</p>
<p><b>The small pictures</b> show one run over time: grey is the load in requests per second, the lines are the replicas
({roles}) that serve, the pale lines those that start or empty too. A good autoscaler's lines follow the grey shape, a little
ahead of it.</p>
<p><b>GPU-hours along the line.</b> Where lines were played, a second table tells what each costs at exactly the required
attainment: read off between two settings of which one reaches it and the other does not. A line that never reaches it has no
such cost.</p>
"""
LIMITS = """
<h2 id="limits">What this does not tell</h2>
<p>Times come from formulas fitted to published measurements, not from a GPU here. The simulator does not cut prompts into
chunks and computes one prompt at a time in each prefill replica. Where a situation tells no conditions, no machine breaks, none
is missing, nobody is turned away, clients do not send again, and each replica has its network to itself. Taking a decision is
taken to cost no time. One random seed was played, so differences of a few parts in a hundred mean little. The oracle and the
best fixed fleet are searched for, so a cheaper one may exist.</p>
"""
# The columns of a situation's table, and where the glossary tells of them.
COLUMNS = {
    "headroom": "headroom",
    "attainment": "attainment",
    "GPU-hours": "GPU-hours",
    "goodput/s": "goodput",
    "rejected": "rejected",
    "failed": "failed",
    "wasted": "wasted",
    "actions": "actions",
    "flips": "flip",
    "reversals": "reversals",
    "recovery": "recovery",
}
GLOSSARY = {
    "actions": "how often a pool was told to grow or shrink",
    "attainment": "share of the offered requests that were answered as promised",
    "best-static": "a reference: the cheapest fleet of a fixed size that reaches the required attainment, found by trying",
    "clairvoyant-flipper": "a reference: a fleet of fixed size, split between the pools as the requests of each half minute "
    "need it; a yardstick and no bound",
    "decode": "writing the answer, one token after the other; its speed is what users see as reading speed (TPOT)",
    "failed": "requests lost with a replica, whose client gave up",
    "flip": "a replica changes its pool: from prefill to decode, or back",
    "forecastable": "a load that comes again or builds up slowly, so that a forecast can help; unforecastable: it cannot; "
    "stationary: there is nothing to forecast",
    "goodput": "requests answered as promised, per second",
    "GPU-hours": "GPUs held, times how long, from the request for a replica until it is gone",
    "headroom": "the value of an autoscaler's one knob; what it means is listed under Knobs",
    "lower-bound": "a reference: the GPU time of the work itself, without waiting or starting; nobody can be cheaper",
    "oracle": "a reference: the cheapest plan found by somebody who knows all traffic beforehand, under everybody's delays; what "
    "it begins with stands from the first second",
    "peer": "another project's autoscaler, rebuilt here from what was published about it",
    "policy": "an autoscaler's rule, or a reference's plan",
    "prefill": "reading the prompt, up to the first token; its waiting time is most of TTFT",
    "promise, SLO": "what users were promised: TTFT and TPOT at most so many seconds",
    "recovery": "after a sudden rise of the load, the longest time until the promised share was met again, and how many rises "
    "were got over; a dash where the load has no such rise",
    "rejected": "requests that were turned away, whose client gave up",
    "replica": "one running copy of the model, on one or more GPUs",
    "reversals": "moves that undid an earlier one at once (within twice a start-up), unless the oracle was played and makes "
    "them too",
    "token": "a piece of a word; models read and write tokens",
    "TPOT": "time per output token after the first: how fast the answer is written",
    "TTFT": "time to the first token: how long until the answer begins",
    "wasted": "prompts that were computed and whose answer then came to nothing",
}

"""A language model as judge of written answers, asked through any OpenAI-compatible endpoint.

``settings`` (evaluator.judge.*), ``items`` (what is judged), ``prompts``, ``verdicts``, ``client``, ``costs``,
``store`` (every verdict on disk, nothing asked twice) and ``run`` (all of it). Nothing is sent without a base_url.
"""

from __future__ import annotations

JUDGE_SCORE = "judge_score"
"""mean rating, 1 to 10, divided by 10"""
WIN_RATE = "judge_win_rate"
"""share of comparisons won, a tie counting half"""
METRICS = (JUDGE_SCORE, WIN_RATE)
METRIC_OF = {"single": JUDGE_SCORE, "pairwise": WIN_RATE}
NOT_JUDGED = "not judged"
"""begins the note that stands in a result in place of a judge's score"""

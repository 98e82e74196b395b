"""Methods of the papers' tables that can't be here: no source read for this project defines them completely."""

from __future__ import annotations

UNAVAILABLE: dict[str, str] = {
    "sara": (
        "SARA (arXiv 2408.03290) has no public code and only its abstract could be read: the rank of a layer comes from"
        " the share of W's singular values and a diagonal is trained between A and B; threshold, scale and start are"
        " not stated"
    ),
    "mo_sara": (
        "Mo-SARA (arXiv 2408.03290) has no public code and only its abstract could be read: several sets of singular"
        " values are mixed by a router over frozen factors; router, number of sets and start are not stated"
    ),
}
"""name -> source, and what is missing; tables say ``definition not available``"""

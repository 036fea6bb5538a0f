"""The built-in methods by name. Others are named in a sweep as `module:Class` or `file.py:Class`."""

from methods.alignprop import AlignProp
from methods.base import Method
from methods.best_of_n import BestOfN
from methods.d3po import D3PO
from methods.ddpo import DDPO
from methods.dpo import DPO
from methods.dpok import DPOK
from methods.draft import DRaFT
from methods.draft_lv import DRaFTLV
from methods.nft import NFT
from methods.no_training import NoTraining
from methods.peers.trl_alignprop import TRLAlignProp
from methods.peers.trl_ddpo import TRLDDPO
from methods.presentation import Presentation
from methods.raft import RAFT
from methods.refl import ReFL
from methods.rwr import RWR
from methods.rwr_sparse import RWRSparse

_METHODS: dict[type[Method], Presentation] = {
    NoTraining: Presentation("untrained", "#6f7680", "#9aa2ad", "dashed"),
    BestOfN: Presentation("selection", "#444b54", "#c4cad2", "dotted"),
    AlignProp: Presentation("gradient", "#0067a8", "#58b2ef"),
    DRaFT: Presentation("gradient", "#008a67", "#3fc79f"),
    DRaFTLV: Presentation("gradient", "#4aa88c", "#7fdcc0", "dashdot"),
    ReFL: Presentation("gradient", "#2f9bd6", "#7cc8f2", "dotted"),
    DDPO: Presentation("policy gradient", "#d1560a", "#f58b4c", reference=True),
    DPOK: Presentation("policy gradient", "#c98a00", "#eebc4a", "dashdot"),
    RWR: Presentation("reward-weighted", "#a8508f", "#dc92c6"),
    RWRSparse: Presentation("reward-weighted", "#c283b1", "#ecbcdf", "dashed"),
    RAFT: Presentation("reward-weighted", "#7a4fa3", "#b795da", "dashdot"),
    D3PO: Presentation("preferences", "#8a2d3b", "#e07f8d"),
    DPO: Presentation("preferences", "#b0606b", "#f0a7b1", "dashed"),
    NFT: Presentation("forward process", "#6b6b00", "#c3c352"),
    TRLAlignProp: Presentation("gradient", "#4b8fc4", "#8ccbf5", "dashed", peer_of="alignprop"),
    TRLDDPO: Presentation("policy gradient", "#dc8a55", "#f7b48c", "dashed", peer_of="ddpo"),
}
"""The built-in methods, `base` first, each with how reports show it."""

_BY_NAME = {method.name: method for method in _METHODS}


def names() -> list[str]:
    """Names of the built-in methods, `base` first."""
    return list(_BY_NAME)


def load(name: str) -> type[Method]:
    """The class of a built-in method.

    Raises:
        KeyError: there is no method of that name.
    """
    return _BY_NAME[name]


def presentation(method: type[Method]) -> Presentation:
    """How reports show a method, built in or not; a subclass is not drawn as its parent is."""
    return _METHODS.get(method) or vars(method).get("presentation", Presentation())

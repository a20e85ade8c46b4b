"""A net as a sequence of stages behind which one may stop, look or attach a head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from convclinic.ground.errors import ConvclinicError, nearest


@dataclass(frozen=True)
class Stage:
    """One stage: its name, its modules in order with the names they have in files of weights ("" for those
    without weights), and how many maps leave it."""

    name: str
    modules: tuple[nn.Module, ...]
    origins: tuple[str, ...]
    maps: int


class Staged(nn.Module):
    """Stages, global average pool, dropout and a linear head.

    stage_names are in order from input to output; the net ends with the stage `cut`, or with the last one.
    """

    def __init__(
        self, stages: Sequence[Stage], n_classes: int, dropout: float, cut: str, head_origin: str | None
    ) -> None:
        super().__init__()
        names = [stage.name for stage in stages]
        kept = stages[: known_stage(cut, names) + 1] if cut else stages
        self.stage_names = tuple(stage.name for stage in kept)
        self.maps = {stage.name: stage.maps for stage in kept}
        self.blocks = nn.ModuleDict({stage.name: nn.Sequential(*stage.modules) for stage in kept})
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(kept[-1].maps, n_classes)
        self._origins = {stage.name: stage.origins for stage in kept}
        self._head_origin = head_origin if len(kept) == len(stages) else None

    def stages(self, images: Tensor, wanted: Sequence[str]) -> dict[str, Float[Tensor, "b c h w"]]:
        """Feature maps behind the wanted stages, from one pass that ends with the last of them."""
        last = max(known_stage(name, self.stage_names) for name in wanted)
        out: dict[str, Tensor] = {}
        for name in self.stage_names[: last + 1]:
            images = self.blocks[name](images)
            if name in wanted:
                out[name] = images
        return out

    def pooled(self, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c"]:
        """The mean of each map."""
        return maps.mean((2, 3))

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        last = self.stage_names[-1]
        return self.head(self.dropout(self.pooled(self.stages(images, (last,))[last])))

    def depth_of(self, parameter: str) -> int:
        """The position of the stage that holds a parameter, by its name; behind the last one for the head."""
        room, _, rest = parameter.partition(".")
        if room == "blocks":
            return self.stage_names.index(rest.partition(".")[0])
        return len(self.stage_names)

    def origin(self, name: str) -> str | None:
        """The name that a parameter or buffer has in files of weights of this net; None for a new one."""
        room, _, rest = name.partition(".")
        if room == "head":
            return None if self._head_origin is None else f"{self._head_origin}.{rest}"
        stage, position, *inner = rest.split(".")
        return ".".join([self._origins[stage][int(position)], *inner])


def known_stage(name: str, names: Sequence[str]) -> int:
    """Its position. Raises ConvclinicError with the nearest right name."""
    if name not in names:
        raise ConvclinicError(f"the net has no stage '{name}'", fix=nearest(name, names))
    return names.index(name)

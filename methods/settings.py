"""Settings of a method, whose fields carry as data what is published of them.

    class MySettings(TrainingSettings, source="owner/repository, config.py", published={"weight_decay": 0.1}):
        learning_rate: float = setting(1e-3, "AdamW's, constant", published=3e-4, scales=True, gt=0)
        extra_loss: float = setting(0.0, "weight of a term that no paper has; off", source=OURS, ge=0)

The class's `source` is that of its published values; its `published` are the values of inherited settings. All of it is
in the JSON Schema, in `bench list methods --json` and on the page docs/settings.md.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

OURS = "ours"
"""The source of a setting for which no value is published."""


def setting(
    default: Any,
    description: str,
    *,
    published: Any = None,
    source: str | None = None,
    scales: bool = False,
    **constraints: Any,
) -> Any:
    """A pydantic field that carries what is published of it. A bare `Field` works too, and carries nothing.

    Args:
        default: the default; `...` makes the setting required.
        description: what the setting does.
        published: the value in the paper or in its authors' code, in the unit of this setting; None for one of ours.
        source: where the published value stands (paper and section, repository and file), or `OURS`; None for the
            source of the class.
        scales: whether a row of a comparison that carries the method's plain name may have another value. True for
            what model, budget, reward or machine decide: the optimiser's constants, sizes and numbers, temperatures,
            clips and guidance. False for what makes it another method: the loss, the baseline of the advantage, which
            steps are trained, the start noise, what is kept in a buffer, how samples are weighed.
        constraints: further arguments of `Field`.
    """
    known: dict[str, Any] = {"source": source, "scales": scales}
    if published is not None:
        known["published"] = to_jsonable_python(published)
    return Field(default, description=description, json_schema_extra=known, **constraints)


def provenance(field: FieldInfo) -> dict[str, Any]:
    """`published`, `source` and `scales` of a setting, as plain JSON; None for each that the field does not carry."""
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    return {key: extra.get(key) for key in ("published", "source", "scales")}


def modifications(settings: BaseModel) -> list[str]:
    """Names of the settings whose values a method's plain name does not allow.

    Such a setting does not scale, and its value is not the published one; if none is published, not the default.
    """
    values, modified = settings.model_dump(mode="json"), []
    for name, field in type(settings).model_fields.items():
        known = provenance(field)
        expected = known["published"]
        if expected is None:
            expected = to_jsonable_python(field.get_default(call_default_factory=True))
        if known["scales"] is False and values[name] != expected:
            modified.append(name)
    return modified


class Settings(BaseModel):
    """The settings of a method. Unknown keys are errors.

    Arguments of a subclass, besides pydantic's:
        source: the source of the published values that name none.
        published: the published values of inherited settings, by name; None for a setting of which none is published.

    Raises:
        TypeError: a published value has no source, or is of a setting that the class does not have.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    def __init_subclass__(
        cls, *, source: str | None = None, published: dict[str, Any] | None = None, **options: Any
    ) -> None:
        super().__init_subclass__(**options)

    @classmethod
    def __pydantic_init_subclass__(
        cls, *, source: str | None = None, published: dict[str, Any] | None = None, **options: Any
    ) -> None:
        super().__pydantic_init_subclass__(**options)
        inherited = published or {}
        if unknown := sorted(inherited.keys() - cls.model_fields.keys()):
            raise TypeError(f"{cls.__name__}: published is given for {', '.join(unknown)}, which is no setting")
        changed = False
        for name, field in cls.model_fields.items():
            before = known = provenance(field)
            if name in inherited:
                value = to_jsonable_python(inherited[name])
                known = known | {"published": value, "source": OURS if value is None else source}
            elif known["published"] is not None and known["source"] is None:
                known = known | {"source": source}
            if known["published"] is not None and known["source"] is None:
                raise TypeError(f"{cls.__name__}.{name}: the published value has no source; write source=...")
            if known != before:
                # A new dict, because the field of the parent class holds the old one.
                field.json_schema_extra = {key: value for key, value in known.items() if value is not None}
                changed = True
        if changed:
            cls.model_rebuild(force=True)  # the JSON Schema is built from the fields as they were

"""Models by name: this package's and RecBole's."""

import pkgutil
from functools import cache
from importlib import import_module
from pathlib import Path

from recbole.utils import get_model

from recbole_perpeft.config.settings import PROPERTIES, RECBOLE_PROPERTIES
from recbole_perpeft.utils.errors import SettingError

_MODULES = ("sequential_recommender", "general_recommender", "content_neighbours")


def our_models() -> dict[str, type]:
    """PerPEFT models by name."""
    return {name: model for name, model in content_models().items() if is_perpeft(model)}


def content_models() -> dict[str, type]:
    """Model classes of this package by name: PerPEFT models, and those that read content and are not trained."""
    modules = [import_module(f"recbole_perpeft.model.{name}") for name in _MODULES]
    classes = {name: value for module in modules for name, value in vars(module).items()}
    return {name: value for name, value in classes.items() if reads_content(value) and hasattr(value, "type")}


def is_perpeft(model_class: type) -> bool:
    """Whether a model class is one of the PerPEFT models, which name their backbone."""
    return hasattr(model_class, "backbone_name")


def reads_content(model_class: type) -> bool:
    """Whether a model class is one of this package's, which see the items' pictures and titles."""
    return bool(settings_files(model_class))


def settings_files(model_class: type) -> list[Path]:
    """The YAML files of this package that models of its kind share; none of RecBole's own models."""
    return [PROPERTIES / "model" / f"{name}.yaml" for name in getattr(model_class, "settings_from", ())]


@cache
def recbole_models() -> tuple[str, ...]:
    """Names of RecBole's own models."""
    with_settings = {path.stem for path in (RECBOLE_PROPERTIES / "model").glob("*.yaml")}
    return tuple(sorted(with_settings | {"Random"}))


def find_model(name: str) -> type:
    """The model class called ``name``, ours or RecBole's.

    Raises
    ------
    SettingError
        If neither has a model of that name (the message names the nearest), or its backbone has no item table.
    """
    exists = name in recbole_models() and name.lower() in _recbole_modules()
    ours = {} if exists else content_models()  # which import transformers and peft: RecBole's own do not wait for that
    if name in ours:
        return ours[name]
    backbone = name.removeprefix("PerPEFT")
    if backbone != name and backbone in recbole_models():
        known = ", ".join(model.backbone_name for model in ours.values() if is_perpeft(model))
        raise SettingError(
            f"model: {name} does not exist: the item tower stands in the place of item embeddings, and RecBole's "
            f"{backbone} has none or is of a kind that is not covered. Choose a PerPEFT model on one of: {known}."
        )
    if not exists:
        raise SettingError.unknown("model", name, [*ours, *recbole_models()])
    try:
        return get_model(name)
    except ModuleNotFoundError as error:
        raise missing_package(name, error) from error


def missing_package(name: str, error: ModuleNotFoundError) -> SettingError:
    """What is said of a model of RecBole that needs a package which is not there, at its import or in its training."""
    return SettingError(
        f"model: {name} needs the package {error.name}, which is not installed. Install it, or choose another model."
    )


@cache
def _recbole_modules() -> frozenset[str]:
    import recbole.model

    folders = Path(recbole.model.__file__).parent.glob("*_recommender")
    return frozenset(info.name for info in pkgutil.iter_modules([str(folder) for folder in folders]))

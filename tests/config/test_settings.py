"""What a typed value means, and what the YAML files of settings hold."""

import pytest
import yaml

from recbole_perpeft.config.settings import PROPERTIES, RECBOLE_PROPERTIES, known_settings, parse_value


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("encoder", "re", "re"),  # RecBole's eval() would find a module here
        ("encoder", "1/0", "1/0"),  # and raise here
        ("dataset", "2020", "2020"),
        ("dataset", "amazon-2023", "amazon-2023"),
        ("image_encoder", "google/vit-base", "google/vit-base"),
        ("peft_type", "LORA", "LORA"),
        ("topk", "[5, 10]", [5, 10]),
        ("topk", "[5,10]", [5, 10]),
        ("text_fields", "[title,brand]", ["title", "brand"]),
        ("text_fields", "['a', 'b']", ["a", "b"]),
        ("peft_config", "{'r': 8, 'lora_alpha': 16}", {"r": 8, "lora_alpha": 16}),
        ("peft_config", "{r: 8, target_modules: [q_proj]}", {"r": 8, "target_modules": ["q_proj"]}),
        ("learning_rate", "1e-3", 0.001),
        ("layer_norm_eps", "1e-8", 1e-8),
        ("group_negatives", "false", False),
        ("train_neg_sample_args", "None", None),
        ("rm_dup_inter", "~", None),
        ("text_template", "{title}, by {brand}", "{title}, by {brand}"),
        ("epochs", "__import__('os').getpid()", "__import__('os').getpid()"),
    ],
)
def test_values_arrive_as_they_were_typed(key, text, value):
    assert parse_value(key, text, known_settings().get(key)) == value


def test_a_text_default_that_is_typed_or_comes_from_a_checkpoint_stays_what_it_is():
    texts = {key: default for key, default in known_settings().items() if isinstance(default, str)}
    assert (texts["pre_model_path"], texts["fredom_type"]) == ("", "None")  # of RecBole's ConvNCF and FEARec
    assert {key: parse_value(key, default, default) for key, default in texts.items()} == texts


def test_our_overall_settings_leave_recboles_model_settings_alone():
    ours = set(yaml.safe_load((PROPERTIES / "overall.yaml").read_text()))
    for file in (RECBOLE_PROPERTIES / "model").glob("*.yaml"):
        assert not ours & set(yaml.safe_load(file.read_text()) or {}), file.name


def test_every_setting_of_ours_has_a_comment():
    for file in [PROPERTIES / "overall.yaml", *(PROPERTIES / "model").glob("*.yaml")]:
        for line in file.read_text().splitlines():
            if line[:1].isalpha():
                assert "#" in line, f"{file.name}: {line}"

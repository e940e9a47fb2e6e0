"""Which layers get adapters by default, where peft's own table knows the model."""

import pytest
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from transformers import AutoConfig, AutoModel, AutoTokenizer

from recbole_perpeft.encoder import EncoderError, FoundationModel
from recbole_perpeft.encoder.foundation.pair import EncoderPair
from recbole_perpeft.encoder.peft.targets import make_peft_config


@pytest.fixture
def text_encoder(models):
    """Function that makes a tiny text encoder of a model type."""

    def make(model_type: str) -> FoundationModel:
        tokenizer = AutoTokenizer.from_pretrained(models / "bert")
        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        config = AutoConfig.for_model(model_type, vocab_size=len(tokenizer), pad_token_id=0, **sizes)
        pair = EncoderPair(None, AutoModel.from_config(config), None, "mean")
        return FoundationModel(pair, model_type, None, tokenizer, 16, False)

    return make


@pytest.mark.parametrize("model_type", ["bert", "roberta", "electra", "deberta", "deberta-v2", "layoutlm"])
def test_lora_adapts_the_layers_of_pefts_table(text_encoder, model_type):
    targets = make_peft_config("LORA", None, text_encoder(model_type)).target_modules
    assert targets == set(TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING[model_type])


def test_lora_leaves_feed_forward_layers_of_phi_alone(text_encoder):
    assert {"fc1", "fc2"} < set(TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING["phi"])
    assert make_peft_config("LORA", None, text_encoder("phi")).target_modules == {"q_proj", "v_proj"}


def test_ia3_scales_what_the_first_layer_of_a_feed_forward_net_gives(text_encoder):
    assert make_peft_config("IA3", None, text_encoder("bert")).target_modules == {"key", "value", "intermediate.dense"}


def test_a_model_that_neither_knows_is_refused(text_encoder):
    with pytest.raises(EncoderError, match="text encoder has none of the layers that LORA adapts by default"):
        make_peft_config("LORA", None, text_encoder("modernbert"))

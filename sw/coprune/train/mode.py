"""Training and evaluation mode, of networks and of what `torch.export` made of them."""

from torch import nn

from coprune.compiler.export import is_exported


def set_training(model: nn.Module, *, training: bool) -> None:
    """Put ``model`` in training or evaluation mode, as `nn.Module.train` does."""
    if not is_exported(model):
        model.train(training)
        return
    # Importing torchao takes seconds, and only what it prepared needs it.
    from torchao.quantization.pt2e import move_exported_model_to_eval, move_exported_model_to_train

    move = move_exported_model_to_train if training else move_exported_model_to_eval
    move(model)

import torch

from coprune.train import save_state_dict

from .networks import brightness_network


def test_saved_weights_are_contiguous_and_load_without_pickled_code(tmp_path):
    network = brightness_network().to(memory_format=torch.channels_last)
    save_state_dict(network, path=tmp_path / "weights.pt")
    state = torch.load(tmp_path / "weights.pt", weights_only=True)
    assert [file.name for file in tmp_path.iterdir()] == ["weights.pt"]
    for name, value in network.state_dict().items():
        assert state[name].is_contiguous()
        assert torch.equal(state[name], value), name

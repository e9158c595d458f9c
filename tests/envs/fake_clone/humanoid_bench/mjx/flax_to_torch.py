"""Policies in torch, which is not installed."""

import torch

TorchModel = TorchPolicy = torch.nn.Module

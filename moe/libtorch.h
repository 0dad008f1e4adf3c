#pragma once

/// The part of LibTorch that this library is written with: tensors, autograd, modules and the
/// few modules it contains. Every file includes this instead of <torch/torch.h>, which adds
/// data loaders, optimizers, TorchScript and every other module; a file then takes three times
/// as long to compile, even with a precompiled header. The two may be mixed freely.

#include <torch/autograd.h>
#include <torch/nn/cloneable.h>
#include <torch/nn/init.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>
#include <torch/utils.h>

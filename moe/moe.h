#pragma once

/// Everything of the library that works with tensors and models. See the headers for each part.

// Packed weights that came with a bundle, which are only read, and what the kernel is told of such files.
#pragma once

#include <string>

#include "litert_api.h"

namespace firsttoken {

// A descriptor of `file` that nothing can be written through: the runtime ends the process rather than pack into it. Raises `Failure`.
int open_to_read(const std::string& file);

// Whether LiteRT takes the kernels that the packed weights in `file` were made for, asked of itself: it is given the file's table with holes in the place of the weights, in a file in `folder`
// that has no name, and a graph that has no weights; it changes what does not fit. False for what is no such file. Raises `Failure` where that cannot be asked.
bool takes_kernels(const Api& api, const std::string& file, const std::string& folder);

// The CPU's features as the kernel tells them: AT_HWCAP and AT_HWCAP2 (getauxval(3)).
unsigned long capability(bool second);

// Asks for the pages of `file`, in its order, on a thread of its own, where they are not in memory and memory has room for them: XNNPACK reads all of a packed file.
void read_ahead(const std::string& file);

// Tells the kernel that of this process's mappings of `file` single pages are read: of an artifact whose weights lie packed elsewhere, rows of the embedding table.
void read_single_pages(const std::string& file);

}  // namespace firsttoken

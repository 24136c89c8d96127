#include "shipped_weights.h"

#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "graph_without_weights.h"
#include "program.h"

namespace firsttoken {
namespace {

constexpr size_t kHeader = 64;                  // bytes: the format's version, where its table lies and how long it is, a build's identifier
constexpr uint64_t kMostTable = uint64_t{64} << 20;

struct Descriptor {
  int number;
  ~Descriptor() {
    if (number >= 0) close(number);
  }
};

[[noreturn]] void fail(const std::string& what) { throw Failure(what + ": " + std::strerror(errno) + "; free some space, or copy the bundle again"); }

// An open file without a name.
int scratch(const std::string& folder) {
  std::string name = folder + "/kernels.XXXXXX";
  const int made = mkostemp(name.data(), O_CLOEXEC);
  if (made < 0) fail("making a file in " + folder);
  unlink(name.c_str());
  return made;
}

bool read_whole(int from, std::vector<char>& into, off_t start) {
  size_t done = 0;
  while (done < into.size()) {
    const ssize_t some = pread(from, into.data() + done, into.size() - done, start + static_cast<off_t>(done));
    if (some <= 0) return false;
    done += static_cast<size_t>(some);
  }
  return true;
}

void write_whole(int into, const char* from, size_t size, off_t start) {
  for (size_t done = 0; done < size;) {
    const ssize_t some = pwrite(into, from + done, size - done, start + static_cast<off_t>(done));
    if (some <= 0) fail("writing the table of packed weights");
    done += static_cast<size_t>(some);
  }
}

}  // namespace

int open_to_read(const std::string& file) {
  const int opened = open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (opened < 0) fail("opening " + file);
  return opened;
}

bool takes_kernels(const Api& api, const std::string& file, const std::string& folder) {
  Descriptor packed{open_to_read(file)};
  struct stat facts {};
  if (fstat(packed.number, &facts) != 0) fail("looking at " + file);
  std::vector<char> header(kHeader), after(kHeader);
  if (!read_whole(packed.number, header, 0)) return false;
  uint64_t start = 0, length = 0;
  std::memcpy(&start, header.data() + 8, sizeof start);
  std::memcpy(&length, header.data() + 16, sizeof length);
  const auto size = static_cast<uint64_t>(facts.st_size);
  if (length > kMostTable || start > size || size - start != length) return false;
  std::vector<char> table(length);
  if (!read_whole(packed.number, table, static_cast<off_t>(start))) return false;
  Descriptor holes{scratch(folder)}, graph{scratch(folder)};
  if (ftruncate(holes.number, facts.st_size) != 0) fail("making room for a table of packed weights");
  write_whole(holes.number, header.data(), header.size(), 0);
  write_whole(holes.number, table.data(), table.size(), static_cast<off_t>(start));
  write_whole(graph.number, reinterpret_cast<const char*>(kGraphWithoutWeights), sizeof kGraphWithoutWeights, 0);
  const int given = fcntl(holes.number, F_DUPFD_CLOEXEC, 0);
  if (given < 0) fail("opening a table of packed weights");
  Program(api, "/proc/self/fd/" + std::to_string(graph.number), 1, {"", given});
  return fstat(holes.number, &facts) == 0 && static_cast<uint64_t>(facts.st_size) == size && read_whole(holes.number, after, 0) && after == header;
}

unsigned long capability(bool second) { return getauxval(second ? AT_HWCAP2 : AT_HWCAP); }

}  // namespace firsttoken

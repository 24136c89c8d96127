#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <system_error>
#include <thread>

#include "shipped_weights.h"

namespace firsttoken {
namespace {

constexpr off_t kBlock = 128 << 10;  // bytes asked for at a time: the kernel reads no more for one call than its read-ahead, by default that
constexpr int kSamples = 16;         // places that are looked at to tell whether a file is in memory
constexpr uint64_t kSpare = 4;       // times its size a file needs of free memory to be read ahead

uint64_t available_memory() {
  std::ifstream facts("/proc/meminfo");
  uint64_t kilobytes = 0;
  for (std::string line; std::getline(facts, line);) {
    if (std::sscanf(line.c_str(), "MemAvailable: %" SCNu64, &kilobytes) == 1) return kilobytes * 1024;
  }
  return 0;
}

// By some of its pages (mincore(2)), which reads none of them.
bool is_cached(int file, off_t size) {
  void* mapped = mmap(nullptr, static_cast<size_t>(size), PROT_READ, MAP_SHARED, file, 0);
  if (mapped == MAP_FAILED) return true;
  const off_t page = sysconf(_SC_PAGESIZE);
  bool all = true;
  for (int place = 0; all && place < kSamples; ++place) {
    unsigned char found = 1;
    char* const start = static_cast<char*>(mapped) + size / kSamples * place / page * page;
    all = mincore(start, 1, &found) != 0 || (found & 1);
  }
  munmap(mapped, static_cast<size_t>(size));
  return all;
}

}  // namespace

void read_ahead(const std::string& file) {
  const int opened = open(file.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat facts {};
  if (opened < 0) return;  // the pages come when they are read
  if (fstat(opened, &facts) != 0 || facts.st_size == 0 || static_cast<uint64_t>(facts.st_size) * kSpare > available_memory() || is_cached(opened, facts.st_size)) {
    close(opened);
    return;
  }
  try {
    std::thread([opened, size = facts.st_size] {
      for (off_t start = 0; start < size; start += kBlock) posix_fadvise(opened, start, kBlock, POSIX_FADV_WILLNEED);
      close(opened);
    }).detach();
  } catch (const std::system_error&) {  // no thread to be had
    close(opened);
  }
}

void read_single_pages(const std::string& file) {
  struct stat facts {};
  if (stat(file.c_str(), &facts) != 0) return;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    uint64_t start = 0, end = 0, inode = 0;
    unsigned major_number = 0, minor_number = 0;
    if (std::sscanf(line.c_str(), "%" SCNx64 "-%" SCNx64 " %*s %*s %x:%x %" SCNu64, &start, &end, &major_number, &minor_number, &inode) != 5) continue;
    if (inode != facts.st_ino || makedev(major_number, minor_number) != facts.st_dev) continue;
    madvise(reinterpret_cast<void*>(start), end - start, MADV_RANDOM);
  }
}

}  // namespace firsttoken

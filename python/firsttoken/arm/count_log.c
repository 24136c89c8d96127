// Counts executed instructions in a log of qemu's user mode.
//
//   count_log FIFO &  qemu-aarch64 -d in_asm,exec,nochain,strace -D FIFO ...
//
// The log has each translated block once ("IN:", then a line for each instruction: address, word, text) and a line for
// each time a block is executed ("Trace 0: 0xHOST [.../PC/...]"). A call of getppid, which the guest makes before and
// after each piece of work, ends a region. Printed at the end, one line each:
//
//   region NUMBER WORD COUNT     how often an instruction, in hexadecimal, was executed in a region
//   blocks NUMBER COUNT UNKNOWN  how many blocks were, and how many more whose instructions the log did not tell
//   translated WORD COUNT        how often an instruction was translated, executed or not
//
// What the words mean is told by instruction_kinds.py.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kBlockBits = 22, kBlocks = 1 << kBlockBits, kWordBits = 20, kWords = 1 << kWordBits, kMostRegions = 64 };

typedef struct {  // a block, by the address of its translation
  uint64_t host, pc;
  uint32_t first, length;  // its instructions in `words`
  uint32_t region;         // of `count`, which is moved on when the region ends
  uint64_t count;
} Block;

typedef struct {
  uint32_t word;
  uint64_t count;
  int used;
} Tally;

static Block* blocks;
static uint32_t used_blocks;
static uint32_t* words;
static size_t word_count, word_room = 1 << 20;
static Tally* tallies[kMostRegions];  // by region; the last one is what was translated
static uint32_t used_words[kMostRegions];
static uint64_t executed[kMostRegions], unknown[kMostRegions];

static void* need(void* memory) {
  if (!memory) {
    fputs("count_log: out of memory\n", stderr);
    exit(1);
  }
  return memory;
}

static void check_room(uint32_t used, uint32_t size, const char* what) {
  if (used <= size / 4 * 3) return;
  fprintf(stderr, "count_log: more %s than it has room for\n", what);
  exit(1);
}

static void add(uint32_t region, uint32_t word, uint64_t count) {
  if (!tallies[region]) tallies[region] = need(calloc(kWords, sizeof(Tally)));
  size_t place = (word * 0x9E3779B1u) >> (32 - kWordBits);
  while (tallies[region][place].used && tallies[region][place].word != word) place = (place + 1) % kWords;
  Tally* tally = &tallies[region][place];
  if (!tally->used) check_room(++used_words[region], kWords, "different instructions");
  *tally = (Tally){word, tally->count + count, 1};
}

static Block* find(uint64_t host) {
  size_t place = (host * 0x9E3779B97F4A7C15ull) >> (64 - kBlockBits);
  while (blocks[place].host && blocks[place].host != host) place = (place + 1) % kBlocks;
  return &blocks[place];
}

// The latest translation of each address. Another thread's line can stand between a translation and its first execution.
typedef struct {
  uint64_t pc;
  uint32_t first, length;
  int used;
} Translation;

static Translation* translations;
static uint32_t used_translations;

static Translation* translation_of(uint64_t pc) {
  size_t place = (pc * 0x9E3779B97F4A7C15ull) >> (64 - kBlockBits);
  while (translations[place].used && translations[place].pc != pc) place = (place + 1) % kBlocks;
  return &translations[place];
}

static void settle(Block* block) {  // moves its executions to its instructions
  for (uint32_t n = 0; block->count && n < block->length; ++n) add(block->region, words[block->first + n], block->count);
  block->count = 0;
}

int main(int count, char** arguments) {
  static char line[1 << 16];
  FILE* log = count == 2 ? fopen(arguments[1], "r") : NULL;
  if (!log) {
    fputs("count_log: expected the log's name\n", stderr);
    return 1;
  }
  setvbuf(log, NULL, _IOFBF, 1 << 20);
  Translation* latest = NULL;
  uint32_t region = 0;
  int fresh = 0, inside = 0;
  blocks = need(calloc(kBlocks, sizeof(Block)));
  translations = need(calloc(kBlocks, sizeof(Translation)));
  words = need(malloc(word_room * sizeof *words));
  while (fgets_unlocked(line, sizeof line, log)) {
    if (line[0] == 'T' && !strncmp(line, "Trace ", 6)) {
      char* at = strstr(line, "0x");
      if (!at) continue;
      const uint64_t host = strtoull(at, &at, 16);
      const char* slash = strchr(at, '/');
      if (!slash) continue;
      const uint64_t pc = strtoull(slash + 1, NULL, 16);
      Block* block = find(host);
      const int just_translated = fresh && latest->pc == pc;
      if (just_translated || !block->host || block->pc != pc) {
        const Translation* made = just_translated ? latest : translation_of(pc);
        if (block->host) settle(block);
        if (made->used) {
          if (!block->host) check_room(++used_blocks, kBlocks, "translated blocks");
          *block = (Block){host, pc, made->first, made->length, region, 0};
        } else {
          block->length = 0;  // nothing is known of what is there now
          block->pc = pc;
        }
        if (just_translated) fresh = 0;
      }
      if (!block->host || !block->length) {
        ++unknown[region];
        continue;
      }
      if (block->region != region) {
        settle(block);
        block->region = region;
      }
      ++block->count;
      ++executed[region];
    } else if (line[0] == '0' && line[1] == 'x') {
      char* after;
      const uint64_t pc = strtoull(line, &after, 16);
      if (*after != ':') continue;
      if (!inside) {
        latest = translation_of(pc);
        if (!latest->used) check_room(++used_translations, kBlocks, "translated addresses");
        *latest = (Translation){pc, word_count, 0, 1};
        inside = fresh = 1;
      }
      if (word_count == word_room) words = need(realloc(words, (word_room *= 2) * sizeof *words));
      words[word_count] = strtoul(after + 1, NULL, 16);
      add(kMostRegions - 1, words[word_count++], 1);
      ++latest->length;
    } else if (line[0] == 'I' && line[1] == 'N') {
      inside = 0;
    } else if (strstr(line, "getppid(") && region < kMostRegions - 2) {
      ++region;
    }
  }
  for (size_t n = 0; n < kBlocks; ++n) settle(&blocks[n]);
  for (uint32_t r = 0; r < kMostRegions; ++r) {
    if (executed[r] || unknown[r]) printf("blocks %u %llu %llu\n", r, (unsigned long long)executed[r], (unsigned long long)unknown[r]);
    for (size_t n = 0; tallies[r] && n < kWords; ++n) {
      const Tally* tally = &tallies[r][n];
      if (!tally->used) continue;
      if (r == kMostRegions - 1) printf("translated %08x %llu\n", tally->word, (unsigned long long)tally->count);
      else printf("region %u %08x %llu\n", r, tally->word, (unsigned long long)tally->count);
    }
  }
  return 0;
}

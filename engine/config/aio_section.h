// Writes measured numbers into the [aio] section of a config file that belongs to somebody else.
//
// Only the values of the keys below change, wherever they stand: under a header, in an inline table
// (aio = {...}) or as dotted keys (aio.queue_depth = 8). Comments, order, line endings and all
// other bytes stay. The result is parsed again, to prove that it says what it should and nothing
// else.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "aio/base/status.h"
#include "aio/io_engine.h"

namespace strata::engine {

struct AioSection {
  aio::IoBackend backend = aio::IoBackend::kIoUring;
  uint64_t block_size_bytes = 0;
  uint32_t queue_depth = 0;
  uint32_t thread_count = 0;
  bool sqpoll =
      false;  // written where it is on, or where the key stands already: off is the default
};

// A whole section. `comment` goes above it, each of its lines behind a "# "; may be empty.
std::string AioSectionText(const AioSection& section, std::string_view comment);

// `text` with the section's values. Keys it lacks are added to the section, the section to the end
// of the text, under `comment`. A number stays a number: block_size = 1048576 is not turned into
// "1MiB". `name` is what errors call the text.
Result<std::string> WithAioSection(std::string_view text, const std::string& name,
                                   const AioSection& section, std::string_view comment);

// The same for a file, which is replaced atomically, or created with this section alone. A link is
// followed; mode and owner stay.
Status WriteAioSection(const std::string& path, const AioSection& section,
                       std::string_view comment);

// What WriteAioSection would fail with, as far as that can be told beforehand.
Status CheckAioSectionFile(const std::string& path);

}  // namespace strata::engine

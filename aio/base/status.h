// How failures of the outside world travel: as values.
//
// A Status says what happened in its text and, by its code, what the caller can do about it. Every
// layer adds what only it knows with With(), outermost first:
//   step 12: layer 3: read /nvme0/p.bin offset_bytes=4096 length_bytes=1048576: Input/output error
// Our own mistakes are not Status: they are STRATA_CHECKs (check.h).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "aio/base/check.h"

namespace strata {

enum class Code {
  kOk,
  kInvalidArgument,     // the caller's input is wrong: fix it
  kNotFound,            // a file, key or tensor is not there
  kAlreadyExists,       // something stands where we would create
  kPermissionDenied,    // read-only or not ours
  kResourceExhausted,   // out of space, memory or descriptors: free some, or later
  kFailedPrecondition,  // not in this state: another run holds the lock, say
  kDataLoss,            // the bytes are not what was written: restore
  kDeadlineExceeded,    // no progress in the time given
  kCancelled,           // the caller asked to stop
  kUnavailable,         // this machine lacks it: a kernel feature, a library
  kUnimplemented,       // a combination that is not supported
  kInternal,            // a peer or library broke its promise
  kIoError,             // a device failed
};

std::string_view CodeName(Code code);

class [[nodiscard]] Status {
 public:
  Status() = default;  // ok
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {
    STRATA_CHECK(code != Code::kOk);
  }

  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }

  // Puts "context: " before the message; nothing happens to an ok status.
  Status With(std::string_view context) const&;

  // "ok", or "data loss: step 12: ...".
  std::string ToString() const;

 private:
  Code code_ = Code::kOk;
  std::string message_;
};

inline Status OkStatus() { return {}; }
Status InvalidArgument(std::string message);
Status NotFound(std::string message);
Status ResourceExhausted(std::string message);
Status FailedPrecondition(std::string message);
Status DataLoss(std::string message);
Status Unimplemented(std::string message);
Status Unavailable(std::string message);
Status Internal(std::string message);

// "context: strerror(error_number)" with the code that fits the errno.
Status ErrnoStatus(int error_number, std::string_view context);

// A T, or the reason why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Status status) : state_(std::in_place_index<1>, std::move(status)) {
    STRATA_CHECK(!std::get<1>(state_).ok());
  }

  bool ok() const { return state_.index() == 0; }
  Status status() const { return ok() ? OkStatus() : std::get<1>(state_); }
  Result With(std::string_view context) && {
    if (ok()) return std::move(*this);
    return std::get<1>(state_).With(context);
  }

  T& value() & {
    STRATA_CHECK(ok());
    return std::get<0>(state_);
  }
  const T& value() const& {
    STRATA_CHECK(ok());
    return std::get<0>(state_);
  }
  T&& value() && {
    STRATA_CHECK(ok());
    return std::get<0>(std::move(state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  std::variant<T, Status> state_;
};

}  // namespace strata

#define STRATA_CONCAT_INNER(a, b) a##b
#define STRATA_CONCAT(a, b) STRATA_CONCAT_INNER(a, b)

#define STRATA_RETURN_IF_ERROR(expression)                                    \
  do {                                                                        \
    if (::strata::Status strata_status_ = (expression); !strata_status_.ok()) \
      return strata_status_;                                                  \
  } while (false)

#define STRATA_ASSIGN_OR_RETURN(target, expression) \
  STRATA_ASSIGN_OR_RETURN_INNER(STRATA_CONCAT(strata_result_, __LINE__), target, expression)
#define STRATA_ASSIGN_OR_RETURN_INNER(result, target, expression) \
  auto result = (expression);                                     \
  if (!result.ok()) return result.status();                       \
  target = std::move(result).value()

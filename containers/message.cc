// SPDX-License-Identifier: Apache-2.0

#include "doppel/containers/message.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace doppel::internal {

absl::Status StatusOf(BadFrame bad) {
  constexpr char kAdvice[] =
      "; the other side does not write messages, or lies: end the connection";
  if (!bad.header.has_value()) {
    return absl::DataLossError(absl::StrCat(
        "the ring of messages holds a part of a header only, or begins within "
        "one: ",
        bad.readable_bytes, " bytes are readable", kAdvice));
  }
  return absl::DataLossError(absl::StrCat(
      "a message's header cannot be true: it tells of a payload of ",
      bad.header->payload_bytes, " bytes (reserved word ", bad.header->reserved,
      ") where header and payload have ", bad.readable_bytes, " bytes",
      kAdvice));
}

}  // namespace doppel::internal

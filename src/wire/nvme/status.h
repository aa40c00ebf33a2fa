// The one table from NVMe status to words and to StatusCode.
//
// NVM Express base specification 2.0, §3.3.3.2.1, and the command set specifications' additions.
#pragma once

#include <basalt/status.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "wire/nvme/command.h"

namespace basalt::nvme {

enum class StatusType : uint8_t {
  generic = 0,
  command_specific = 1,
  media = 2,
  path = 3,
  vendor = 7
};

// The codes this library itself looks at or answers.
inline constexpr CompletionStatus kGood{}, kInvalidOpcode{0, 0x01}, kInvalidField{0, 0x02},
    kIdConflict{0, 0x03}, kDataTransferError{0, 0x04}, kPowerLoss{0, 0x05}, kInternalError{0, 0x06},
    kAbortRequested{0, 0x07}, kAbortSubmissionQueueDeleted{0, 0x08}, kInvalidNamespace{0, 0x0b},
    kCommandSequenceError{0, 0x0c}, kInvalidPrpOffset{0, 0x13}, kNamespaceNotReady{0, 0x82},
    kReservationConflict{0, 0x83}, kHostIdInconsistent{0, 0x18}, kLbaOutOfRange{0, 0x80},
    kCapacityExceeded{0, 0x81}, kInvalidQueueId{1, 0x01}, kInvalidQueueSize{1, 0x02},
    kCompletionQueueInvalid{1, 0x00}, kAbortLimitExceeded{1, 0x03},
    kAsyncEventLimitExceeded{1, 0x05}, kInvalidInterruptVector{1, 0x08}, kInvalidLogPage{1, 0x09},
    kFeatureNotSaveable{1, 0x0d}, kFeatureNotChangeable{1, 0x0e}, kWriteFault{2, 0x80},
    kUnrecoveredReadError{2, 0x81}, kCompareFailure{2, 0x85}, kFailedFusedCommand{0, 0x09},
    kMissingFusedCommand{0, 0x0a}, kDataLengthInvalid{0, 0x0f}, kSglTypeInvalid{0, 0x11},
    kWriteProtected{0, 0x20}, kCopyTooLong{1, 0x83}, kDataDigestError{0, 0x22},
    kPreemptedAndAborted{0, 0x1b}, kAccessPersistentLoss{3, 0x01}, kAccessInaccessible{3, 0x02},
    kAccessTransition{3, 0x03};

// "LBA out of range"; "unknown status" for codes no table has.
std::string_view status_name(CompletionStatus status);
// "LBA out of range (0x80)", "write fault (media, 0x80)", with what kind of code it is unless generic.
std::string describe(CompletionStatus status);
// What a caller of the block contract is told.
StatusCode to_status_code(CompletionStatus status);

}  // namespace basalt::nvme

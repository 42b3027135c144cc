package consensus

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"time"

	"github.com/hashicorp/raft"
)

// An entry is kept as its checksum, that of the entry before it, and itself:
//
//	sum 4, sum before 4, term 8, type 1, time 8, length of the extensions 4,
//	extensions, data
//
// The sum is the CRC-32C of the index and of all that follows it. So it tells a
// damaged entry, one in another's place, and, as each holds the one before, an
// entry that was valid once and then was replaced.
const entryHeader = 4 + 4 + 8 + 1 + 8 + 4

func sumTable() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

func entrySum(index uint64, rest []byte) uint32 {
	var key [8]byte
	binary.BigEndian.PutUint64(key[:], index)
	return crc32.Update(crc32.Checksum(key[:], sumTable()), sumTable(), rest)
}

// encodeEntry returns the form on disk and its sum.
func encodeEntry(log *raft.Log, before uint32) ([]byte, uint32) {
	b := make([]byte, entryHeader, entryHeader+len(log.Extensions)+len(log.Data))
	binary.BigEndian.PutUint32(b[4:], before)
	binary.BigEndian.PutUint64(b[8:], log.Term)
	b[16] = byte(log.Type)
	if !log.AppendedAt.IsZero() {
		binary.BigEndian.PutUint64(b[17:], uint64(log.AppendedAt.UnixNano()))
	}
	binary.BigEndian.PutUint32(b[25:], uint32(len(log.Extensions)))
	b = append(append(b, log.Extensions...), log.Data...)
	sum := entrySum(log.Index, b[4:])
	binary.BigEndian.PutUint32(b, sum)
	return b, sum
}

// decodeEntry is the reverse, and copies what it keeps.
func decodeEntry(index uint64, b []byte, log *raft.Log) (sum, before uint32, err error) {
	if len(b) < entryHeader {
		return 0, 0, fmt.Errorf("entry %d is not there or too short", index)
	}
	sum = binary.BigEndian.Uint32(b)
	extensions := int(binary.BigEndian.Uint32(b[25:]))
	if entrySum(index, b[4:]) != sum || extensions > len(b)-entryHeader {
		return 0, 0, fmt.Errorf("the checksum of entry %d is wrong", index)
	}
	*log = raft.Log{Index: index, Term: binary.BigEndian.Uint64(b[8:]), Type: raft.LogType(b[16])}
	if at := binary.BigEndian.Uint64(b[17:]); at != 0 {
		log.AppendedAt = time.Unix(0, int64(at))
	}
	body := b[entryHeader:]
	if extensions > 0 {
		log.Extensions = append([]byte(nil), body[:extensions]...)
	}
	log.Data = append([]byte(nil), body[extensions:]...)
	return sum, binary.BigEndian.Uint32(b[4:]), nil
}

// A seal is written with every change, in the same transaction: what there is, so
// that nothing can go missing, and with it the few values that raft keeps, its term
// and its vote.
type seal struct {
	First  uint64            `json:"first"` // entry; 0 if there is none
	Last   uint64            `json:"last"`
	Sum    uint32            `json:"sum"` // of the last
	Values map[string][]byte `json:"values,omitempty"`
}

// with is a copy with another value.
func (s seal) with(key string, value []byte) seal {
	values := maps.Clone(s.Values)
	if values == nil {
		values = make(map[string][]byte)
	}
	values[key] = append([]byte(nil), value...)
	s.Values = values
	return s
}

func (s seal) number(key string) uint64 {
	if v := s.Values[key]; len(v) == 8 {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func (s seal) encode() []byte {
	body, _ := json.Marshal(s) // of these types, it cannot fail
	return append(binary.BigEndian.AppendUint32(nil, crc32.Checksum(body, sumTable())), body...)
}

func decodeSeal(b []byte) (s seal, err error) {
	if len(b) < 4 || crc32.Checksum(b[4:], sumTable()) != binary.BigEndian.Uint32(b) {
		return s, errors.New("the checksum of its seal is wrong")
	}
	if err := json.Unmarshal(b[4:], &s); err != nil {
		return s, fmt.Errorf("its seal: %w", err)
	}
	return s, nil
}

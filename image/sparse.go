package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// sparseBlock is the grain in which content decides what is a hole. A part of the format.
	sparseBlock = 4096
	// maxExtents keeps the map of a badly fragmented file below the 1 MiB that archive/tar reads.
	maxExtents = 20000
	// sparseMark is the record by which Unpack knows an entry that had holes.
	sparseMark = "GNU.sparse.major"
)

type extent struct{ off, length int64 }

// sparseMap tells where a file with holes has data.
type sparseMap struct {
	size int64
	data []extent
}

// findSparse maps a file of the given size, nil if it has no hole. Inside what the file system
// calls data, blocks of zeros are holes too: file systems differ in what they call data.
func findSparse(f *os.File, size int64) (*sparseMap, error) {
	fd := int(f.Fd())
	hole, err := unix.Seek(fd, 0, unix.SEEK_HOLE)
	if errors.Is(err, unix.EINVAL) || err == nil && hole >= size {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	m := &sparseMap{size: size}
	buf := make([]byte, 64*sparseBlock)
	for at := int64(0); at < size; {
		data, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		} else if err != nil {
			return nil, err
		}
		end, err := unix.Seek(fd, data, unix.SEEK_HOLE)
		if err != nil {
			return nil, err
		}
		// Whole blocks, whatever the borders that the file system reports.
		at = max(at, data-data%sparseBlock)
		end = min(size, end+(-end&(sparseBlock-1)))
		for at < end {
			n, err := f.ReadAt(buf[:min(int64(len(buf)), end-at)], at)
			if n == 0 || err != nil && err != io.EOF {
				return nil, errors.Join(errChanged, err)
			}
			for block := range slices.Chunk(buf[:n], sparseBlock) {
				if !allZero(block) {
					m.add(at, int64(len(block)))
				}
				at += int64(len(block))
			}
		}
	}
	m.coalesce()
	return m, nil
}

// add appends data, joined to the extent before it where they touch.
func (m *sparseMap) add(off, length int64) {
	length = min(length, m.size-off)
	if n := len(m.data); n > 0 && m.data[n-1].off+m.data[n-1].length == off {
		m.data[n-1].length += length
		return
	}
	m.data = append(m.data, extent{off, length})
}

// coalesce takes small holes for data, twice as large ones at each try, until the map is short.
func (m *sparseMap) coalesce() {
	for gap := int64(2 * sparseBlock); len(m.data) > maxExtents; gap *= 2 {
		kept := m.data[:1]
		for _, e := range m.data[1:] {
			if last := &kept[len(kept)-1]; e.off-(last.off+last.length) < gap {
				last.length = e.off + e.length - last.off
			} else {
				kept = append(kept, e)
			}
		}
		m.data = kept
	}
}

// text is the map as it stands before the data: decimal lines, filled up to a tar block.
func (m *sparseMap) text() []byte {
	data := m.data
	if n := len(data); n == 0 || data[n-1].off+data[n-1].length < m.size {
		data = append(slices.Clip(data), extent{m.size, 0}) // how GNU tar tells of a hole at the end
	}
	b := fmt.Appendf(nil, "%d\n", len(data))
	for _, e := range data {
		b = fmt.Appendf(b, "%d\n%d\n", e.off, e.length)
	}
	return append(b, make([]byte, padding(int64(len(b))))...)
}

func (m *sparseMap) reader(f io.ReaderAt) io.Reader {
	parts := make([]io.Reader, len(m.data))
	for i, e := range m.data {
		parts[i] = io.NewSectionReader(f, e.off, e.length)
	}
	return io.MultiReader(parts...)
}

// writeSparseHeader writes what precedes the data of a sparse entry and returns the data's length.
// It is GNU tar's sparse format 1.0 in PAX ("Storing Sparse Files" in its manual), which
// archive/tar and bsdtar read as well.
func writeSparseHeader(w io.Writer, hdr *tar.Header, m *sparseMap) (data int64, err error) {
	for _, e := range m.data {
		data += e.length
	}
	text := m.text()
	records := maps.Clone(hdr.PAXRecords)
	if records == nil {
		records = map[string]string{}
	}
	records[sparseMark] = "1"
	records["GNU.sparse.minor"] = "0"
	records["GNU.sparse.name"] = hdr.Name
	records["GNU.sparse.realsize"] = strconv.FormatInt(m.size, 10)
	// In records, and not only in the header's octal fields, which are too small for some.
	records["size"] = strconv.FormatInt(int64(len(text))+data, 10)
	records["uid"] = strconv.Itoa(hdr.Uid)
	records["gid"] = strconv.Itoa(hdr.Gid)
	records["mtime"] = paxTime(hdr.ModTime.Unix(), int64(hdr.ModTime.Nanosecond()))

	var pax bytes.Buffer
	for _, k := range slices.Sorted(maps.Keys(records)) {
		pax.WriteString(paxRecord(k, records[k]))
	}
	base := path.Base(hdr.Name)
	var out bytes.Buffer
	out.Write(ustar("PaxHeaders.0/"+base, tar.TypeXHeader, 0, int64(pax.Len())))
	out.Write(pax.Bytes())
	out.Write(make([]byte, padding(int64(pax.Len()))))
	out.Write(ustar("GNUSparseFile.0/"+base, tar.TypeReg, hdr.Mode, int64(len(text))+data))
	out.Write(text)
	_, err = w.Write(out.Bytes())
	return data, err
}

// ustar lays out one header block (POSIX.1-1988), with zeros for what PAX records tell.
func ustar(name string, typeflag byte, mode, size int64) []byte {
	const maxOctal = 1<<33 - 1 // 11 digits
	if size > maxOctal {
		size = 0
	}
	b := make([]byte, 512)
	copy(b[0:100], name)
	copy(b[100:], fmt.Sprintf("%07o\x00%07o\x00%07o\x00%011o\x00%011o\x00", mode, 0, 0, size, 0))
	copy(b[148:156], "        ")
	b[156] = typeflag //nolint:gosec // G602: a header has 512 bytes
	copy(b[257:], "ustar\x0000")
	copy(b[329:], "0000000\x000000000\x00")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// paxRecord is "length key=value\n", whose length counts its own digits.
func paxRecord(key, value string) string {
	size := len(key) + len(value) + 3
	size += len(strconv.Itoa(size))
	record := fmt.Sprintf("%d %s=%s\n", size, key, value)
	if len(record) != size { // the length itself needed one more digit
		record = fmt.Sprintf("%d %s=%s\n", len(record), key, value)
	}
	return record
}

// paxTime is a time as a decimal fraction; before 1970 both parts count downwards.
func paxTime(sec, nsec int64) string {
	if nsec == 0 {
		return strconv.FormatInt(sec, 10)
	}
	sign := ""
	if sec < 0 {
		sign, sec, nsec = "-", -(sec + 1), 1e9-nsec
	}
	return sign + strings.TrimRight(fmt.Sprintf("%d.%09d", sec, nsec), "0")
}

// padding is how many zeros fill n bytes up to a tar block.
func padding(n int64) int64 { return -n & 511 }

func pad(w io.Writer, n int64) error {
	_, err := w.Write(make([]byte, padding(n)))
	return err
}

var zeros [sparseBlock]byte

// allZero tells whether a block of at most sparseBlock bytes is all zeros.
func allZero(b []byte) bool { return bytes.Equal(b, zeros[:len(b)]) }

package swarm

import (
	"context"
	"io"
)

// reader reads an artifact in order while it arrives.
type reader struct {
	c      *content
	ctx    context.Context // ends with the download, or with Close
	cancel context.CancelFunc
	moved  func(piece int) // told the piece that is read next
	// explain says which artifact an error is about.
	explain func(error) error
	pos     int64
}

// Read blocks until the next piece is there and proven. It returns io.EOF only after the whole file
// was held against its SHA-256, so who has read to the end has read the artifact.
func (r *reader) Read(p []byte) (int, error) {
	if r.pos == r.c.desc.Size {
		if err := r.c.waitWhole(r.ctx); err != nil {
			return 0, r.explain(causeOr(r.ctx, err))
		}
		return 0, io.EOF
	}
	i := int(r.pos / r.c.desc.PieceLength)
	if r.pos == r.c.desc.offset(i) {
		r.moved(i)
	}
	if err := r.c.waitPiece(r.ctx, i); err != nil {
		return 0, r.explain(causeOr(r.ctx, err))
	}
	end := r.c.desc.offset(i) + r.c.desc.pieceSize(i)
	n, err := r.c.file.ReadAt(p[:min(int64(len(p)), end-r.pos)], r.pos)
	r.pos += int64(n)
	if n > 0 || err == nil {
		return n, nil
	}
	return 0, r.explain(err)
}

// Close ends a Read that waits. The download goes on.
func (r *reader) Close() error {
	r.cancel()
	return nil
}

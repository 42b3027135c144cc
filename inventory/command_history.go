package inventory

// ApplyDocument makes the document true, all of it or nothing.
type ApplyDocument struct {
	Document Document `json:"document"`
	Prune    bool     `json:"prune,omitempty"` // delete what the document does not name
}

func (c ApplyDocument) Validate() error { return c.Document.Validate() }

// UndoChange takes back what the log entry did. It is refused where something
// that the entry changed has been changed again.
type UndoChange struct {
	Entry uint64 `json:"entry"`
}

func (c UndoChange) Validate() error { return nil }

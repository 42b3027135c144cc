// Package legacy reads the database of a Luna 1.2 head and says what it means
// here.
//
// Luna 1.2 kept its objects in the MongoDB database "luna", one collection per
// class. [Read] takes that database in any form in which MongoDB's own tools
// write it: a mongodump directory, a mongodump archive, a mongoexport in
// extended JSON. No MongoDB is needed. [Convert] makes of it an
// inventory.Document, which is what "luna apply" takes, and a [Report] of
// everything that could not be kept as it was.
package legacy

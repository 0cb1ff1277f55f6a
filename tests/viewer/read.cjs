// Read DICOM files with dcmjs, the parser of OHIF: node read.cjs FILE… prints a JSON list, for each
// file its header's values by keyword, as dcmjs has them, without bulk data; an error ends with 1.

const fs = require('node:fs')
const path = require('node:path')
const { data, log } = require(path.join(__dirname, 'js', 'dcmjs.min.js'))

log.setLevel('silent')
const KEYWORDS = ['SOPClassUID', 'SOPInstanceUID', 'StudyInstanceUID', 'AccessionNumber', 'PatientID']

const found = process.argv.slice(2).map((file) => {
  const bytes = fs.readFileSync(file)
  const range = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength)
  const read = data.DicomMessage.readFile(range)
  const named = data.DicomMetaDictionary.naturalizeDataset(read.dict)
  const told = Object.fromEntries(KEYWORDS.map((keyword) => [keyword, named[keyword] ?? '']))
  const name = [named.PatientName].flat()[0] ?? {}
  const groups = [name.Alphabetic, name.Ideographic, name.Phonetic].map((group) => group ?? '')
  return { ...told, PatientName: groups, elements: Object.keys(named).length }
})
process.stdout.write(JSON.stringify(found))

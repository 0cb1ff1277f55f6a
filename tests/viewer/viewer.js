// Show one slide of a study as the Slim viewer does, with all its overlays:
// index.html?study=UID&series=UID of the slide. Tests drive it by window.tandem.

const { DICOMwebClient } = window.DICOMwebClient.api
const { metadata, viewer: viewers } = window.dicomMicroscopyViewer
const CLASSES = {
  segments: '1.2.840.10008.5.1.4.1.1.66.4',
  mappings: '1.2.840.10008.5.1.4.1.1.30',
}
const tandem = (window.tandem = { errors: [], loading: 0, overlays: [] })

function failed (error) {
  tandem.errors.push(String(error?.message ?? error))
  document.title = 'failed'
  return error
}

const uidOf = (series) => series['0020000E'].Value[0]
const sopClass = (instance) => instance['00080016'].Value[0]
const frame = (instance) => instance['00200052']?.Value[0]

async function show () {
  const wanted = new URLSearchParams(window.location.search)
  const study = wanted.get('study')
  const client = new DICOMwebClient({ url: new URL('dicom-web', window.location.href).href })
  const found = await client.searchForSeries({ studyInstanceUID: study })
  const all = await Promise.all(
    found.map((series) => client.retrieveSeriesMetadata({
      studyInstanceUID: study,
      seriesInstanceUID: uidOf(series),
    }))
  )
  const slide = all.find((list) => uidOf(list[0]) === wanted.get('series'))
  const viewer = new viewers.VolumeImageViewer({
    client,
    metadata: slide.map((one) => new metadata.VLWholeSlideMicroscopyImage({ metadata: one })),
    controls: [],
    errorInterceptor: failed,
  })
  const container = document.getElementById('slide')
  const count = (event, by) =>
    container.addEventListener(`dicommicroscopyviewer_frame_loading_${event}`, () => {
      tandem.loading += by
    })
  count('started', 1)
  count('ended', -1)
  viewer.render({ container })
  // The viewer requires that a slide is shown before overlays are added to it.
  await new Promise((resolve) => {
    container.addEventListener('dicommicroscopyviewer_frame_loading_ended', resolve, { once: true })
  })
  tandem.firstTileMs = performance.now()
  for (const list of all.filter((list) => frame(list[0]) === frame(slide[0]))) {
    if (sopClass(list[0]) === CLASSES.segments) {
      viewer.addSegments(list.map((one) => new metadata.Segmentation({ metadata: one })))
    } else if (sopClass(list[0]) === CLASSES.mappings) {
      viewer.addParameterMappings(list.map((one) => new metadata.ParametricMap({ metadata: one })))
    }
  }
  const named = (kind) => ({ uid, label }) => ({ kind, uid, label })
  tandem.overlays = [
    ...viewer.getAllSegments().map(named('Segment')),
    ...viewer.getAllParameterMappings().map(named('ParameterMapping')),
  ]
  tandem.viewer = viewer
  document.title = 'shown'
}

// The engine's own navigate() reaches only as many steps of zoom, by 2, as the slide has levels. The
// map, of OpenLayers, is behind a symbol.
tandem.goToLevel0 = () => {
  const parts = Object.getOwnPropertySymbols(tandem.viewer).map((key) => tandem.viewer[key])
  const map = parts.find((part) => part?.getView?.()?.setResolution)
  map.getView().setResolution(1)
}

show().catch(failed)

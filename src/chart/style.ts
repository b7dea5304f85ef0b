// What all charts look like: the type, the paper and the grid, for light and dark screens.

/** A chart's own rules after the common ones. @param dark rules that hold where dark colours are preferred */
export function styleSheet(light: string, dark: string): string {
  return `
text{font:12px ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#1f2328}
.title{font-size:15px;font-weight:600}.quiet{fill:#59636e}.end{text-anchor:end}.middle{text-anchor:middle}
.paper{fill:#fff}.grid{stroke:#d1d9e0;stroke-width:1}.leader{stroke:#59636e;stroke-width:.75}
.label{paint-order:stroke;stroke:#fff;stroke-width:3px;stroke-linejoin:round}
${light}
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.quiet{fill:#9198a1}.paper{fill:#0d1117}.grid{stroke:#3d444d}.leader{stroke:#9198a1}.label{stroke:#0d1117}
${dark}}
`
}

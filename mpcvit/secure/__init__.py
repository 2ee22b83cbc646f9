"""Private inference by real parties: nobody but the image owner learns the label."""
